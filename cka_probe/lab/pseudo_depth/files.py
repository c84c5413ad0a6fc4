"""Write pseudo-depth into SC-Depth's folders, in LeReS's file format.

    training/<scene>/leres_depth/<image>.png    uint16, 60000 (d - min d + 0.01) / (max d - min d + 0.01)
    training/<scene>/leres_depth/source.json      what wrote them

d is the source's depth of the whole image, at its stored size, larger = farther. Scale and shift of a network's
depth mean nothing, and 0.01 would mean more or less with them; so d is first standardised (`losses.standardised`:
median 0, mean absolute deviation 1).

A scene's folder appears when all of its images are there. Until then they grow in `.leres_depth.making` beside
it, where an interrupted run goes on. A folder that the same source wrote is kept; whatever else stands there is
replaced only if that is asked for, and then by a whole one.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cka_probe.errors import CheckpointError, DataError, OutputError
from cka_probe.files import atomic_write
from cka_probe.images.reading import images_in, read_image
from cka_probe.lab.datasets.sc_depth import scene_folders
from cka_probe.lab.losses import standardised
from cka_probe.lab.pseudo_depth.sources import Source, open_source
from cka_probe.lab.scenes.layouts.files import write_affine_depth
from cka_probe.progress import Progress

FORMAT = "ckaprobe-pseudo-depth/1"
FOLDER, MAKING, OLD, NOTE = "leres_depth", ".leres_depth.making", ".leres_depth.old", "source.json"
BATCH = 8


def write_pseudo_depth(
    source: str | Path | Source,
    data: str | Path,
    *,
    gives: str = "",
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write pseudo-depth of every image for training.

    Args:
        source: What `open_source` takes, or what it returns.
        data: `scdepth:DIR`.
        gives: As `open_source` takes it.
        device: As `open_source` takes it.
        overwrite: Whether pseudo-depth of other or unknown origin is replaced.
        progress: Called with the number of images that have pseudo-depth and of all, at the start and after each batch.

    Returns:
        The folder of each scene.

    Raises:
        CheckpointError: The source is none, or gives numbers that are none.
        DataError: The data is not SC-Depth's, or an image cannot be read.
        OutputError: Other pseudo-depth stands there, or the place cannot be written to.
    """
    name, _, root = str(data).partition(":")
    if name != "scdepth" or not root:
        raise DataError(f"expected scdepth:DIR, found {str(data)!r}; pseudo-depth lies in SC-Depth's folders alone")
    scenes = [(folder, images_in(folder)) for folder in scene_folders(root)]
    for folder in (folder for folder, images in scenes if not images):
        raise DataError(f"no images in {folder}: expected frames beside cam.txt; complete the data")
    source = source if isinstance(source, Source) else open_source(source, gives=gives, device=device)
    note = json.dumps({"format": FORMAT} | source.note, indent=1, sort_keys=True) + "\n"
    waiting = [(folder, images) for folder, images in scenes if not _is_there(folder, images, note, overwrite)]
    tell, total = progress or _silence, sum(len(images) for _, images in scenes)
    done = total - sum(len(images) for _, images in waiting)
    tell(done, total)
    for folder, images in waiting:
        with _trouble_in_one_line(folder):
            for more in _write_scene(folder, images, source, note):
                done += more
                tell(done, total)
    return [folder / FOLDER for folder, _ in scenes]


def _is_there(scene: Path, images: list[Path], note: str, overwrite: bool) -> bool:
    """Return whether a scene has the pseudo-depth of a note for each image.

    Raises:
        OutputError: It has other pseudo-depth, which may not be replaced.
    """
    folder = scene / FOLDER
    if not folder.exists():
        return False
    said = folder / NOTE
    found = said.read_text("utf-8") if said.is_file() else None
    if found == note:
        return {path.stem for path in folder.glob("*.png")} == {path.stem for path in images}
    if overwrite:
        return False
    origin = "of unknown origin" if found is None else "of another source"
    raise OutputError(
        f"expected no {FOLDER} in {scene}, or one of the same source; found one {origin}; say --overwrite to replace it"
    )


def _write_scene(scene: Path, images: list[Path], source: Source, note: str) -> Iterator[int]:
    """Write what is missing of a scene and put it into its place; yield how many more images are done."""
    making = scene / MAKING
    if making.exists() and (not (making / NOTE).is_file() or (making / NOTE).read_text("utf-8") != note):
        shutil.rmtree(making)  # another source's, which never came to an end
    if not making.exists():
        with atomic_write(making / NOTE) as beside:
            beside.write_text(note, "utf-8", newline="\n")
    wanted = {image: making / f"{image.stem}.png" for image in images}
    missing = [image for image, path in wanted.items() if not path.exists()]
    if there := len(images) - len(missing):
        yield there
    for first in range(0, len(missing), BATCH):
        some = missing[first : first + BATCH]
        for image, depth in zip(some, source.depth([read_image(path) for path in some]), strict=True):
            _write(wanted[image], depth, image)
        yield len(some)
    keep = {making / NOTE, *wanted.values()}
    for path in making.iterdir():
        if path not in keep:  # of an image that is gone, or of a run that was killed
            path.unlink()
    _publish(scene)


def _write(path: Path, depth: torch.Tensor, image: Path) -> None:
    """Write one image's pseudo-depth."""
    if not depth.isfinite().all():
        raise CheckpointError(
            f"{image}: expected depth from the source, found NaN or infinity; its weights are no trained model's"
        )
    plain = standardised(depth[None, None], torch.ones_like(depth, dtype=torch.bool)[None, None])[0, 0]
    with atomic_write(path) as beside:
        write_affine_depth(beside, plain.double().numpy())


def _publish(scene: Path) -> None:
    """Put a finished folder into its place; whenever this is cut short, the next run can end it."""
    old = scene / OLD
    if old.exists():
        shutil.rmtree(old)
    if (scene / FOLDER).exists():
        (scene / FOLDER).rename(old)
    (scene / MAKING).rename(scene / FOLDER)
    if old.exists():
        shutil.rmtree(old)


@contextmanager
def _trouble_in_one_line(scene: Path) -> Iterator[None]:
    """Turn what a disk can do to folders into one line; files have theirs from `replacing`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write pseudo-depth into {scene}: {error.strerror or error}; the same command goes on from here"
        ) from error


def _silence(done: int, total: int | None) -> None:
    """Progress that nobody watches."""
