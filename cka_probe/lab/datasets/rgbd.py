"""RGB-D sequences: colour with measured depth in every frame, in two forms recognised by what is there.

1. TUM RGB-D (Sturm et al. 2012): `rgb.txt`, `depth.txt` and `groundtruth.txt`, see `tum_rgbd`.
2. A video's folder with a folder of depth, see `video`: `images/` with `depth_mm/` or `depth/`, a camera as
   `intrinsics.json`, `K.txt` or `cam.txt`, and `poses.txt` where the poses are known.

Root may be a sequence or hold several. "test" is the last third of each and "train" what comes before.
"""

from pathlib import Path

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.lab.datasets.frames import Frames, parse_sources
from cka_probe.lab.datasets.tum_rgbd import is_tum, tum_scenes
from cka_probe.lab.datasets.video import DEPTHS, cut, find_sequences, is_video, video_frames


def rgbd(root: str | Path, split: str = "all", *, sources: str = "", per_metre: int = 0) -> Frames:
    """Return RGB-D sequences.

    Args:
        root: A sequence's folder, or one that holds several.
        split: "train", "test" (the last third of each) or "all".
        sources: Neighbours that each sample brings along, as offsets in frames: "-1,1".
        per_metre: Steps a metre of the depth; 0: as the form has it (TUM 5000, otherwise millimetres).

    Raises:
        UnknownNameError: There is no split of that name anywhere.
        DataError: There is no sequence, or something in one is missing or broken.
    """
    root, where = Path(root), f"RGB-D sequences at {root}"
    check_split(split, ("train", "test", "all"), where)
    folders = find_sequences(root, _is_sequence)
    if not folders:
        raise DataError(
            f"expected {where}: rgb.txt with depth.txt, or images/ with depth_mm/ or depth/, found neither; "
            "give the folder that holds one of these, or open a video without depth as 'video:'"
        )
    scenes = []
    for folder in folders:
        scenes += tum_scenes(folder, root, per_metre) if is_tum(folder) else [video_frames(folder, root, per_metre)]
    return Frames(cut(scenes, split), parse_sources(sources), where)


def _is_sequence(folder: Path) -> bool:
    """Return whether a folder is an RGB-D sequence."""
    return is_tum(folder) or (is_video(folder) and any((folder / name).is_dir() for name in DEPTHS))
