"""Pseudo-depth: the depth that a network predicts for videos, written where SC-Depth's reader expects it.

**Sources.**

    run/teacher.safetensors                          a teacher, or a checkpoint of any task that predicts depth
    transformers:NAME_OR_PATH                        any model that `AutoModelForDepthEstimation` loads

A teacher receives the whole image, scaled to its input size, as in its evaluation; networks trained on crops of the
image's aspect ratio predict in sliding windows (`tasks.sliding_window`).

Models trained on disparity (DPT, Depth Anything) predict it up to scale and shift, and its inverse depends on the
shift. The shift is chosen such that the farthest point of each image is `FARTHEST` times as far as the nearest,

    q = (disparity - min) / (max - min),    depth = 1 / (1 / FARTHEST + (1 - 1 / FARTHEST) q)

which preserves the order and the edges of depth and bends planes slightly. `gives` names the quantity for models
whose configuration does not.

**Files** have LeReS's format:

    training/<scene>/leres_depth/<image>.png    uint16, 60000 (d - min d + 0.01) / (max d - min d + 0.01)
    training/<scene>/leres_depth/source.json      what wrote them

d is the source's depth of the whole image at its stored size; larger = farther. Scale and shift of predicted depth are
arbitrary, and the effect of 0.01 depends on them; so d is first standardised (`losses.standardised`: median 0, mean
absolute deviation 1).

A scene's folder appears once all of its images are written. Until then they are collected in `.leres_depth.making`,
where an interrupted run resumes. A folder written by the same source is left unchanged; anything else is replaced only
on request, and then as a whole.
"""

import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cka_probe.errors import CheckpointError, DataError, OutputError
from cka_probe.files import atomic_write
from cka_probe.images.reading import images_in, read_image
from cka_probe.lab.datasets.sc_depth import scene_folders
from cka_probe.lab.evaluation.sliding_window import predict_whole
from cka_probe.lab.losses import standardised
from cka_probe.lab.scenes.layouts.files import write_affine_depth
from cka_probe.lab.transforms import resized
from cka_probe.models.checkpoint import Trained, file_hash, is_ckaprobe_checkpoint, load_trained, read_header
from cka_probe.models.devices import full_float32, pick_device
from cka_probe.models.load import weights_hash
from cka_probe.progress import Progress

FARTHEST = 10.0
GIVES = ("depth", "disparity")
TASKS_OF_DEPTH = ("teacher", "depth", "geometric", "pseudo_depth")
TRANSFORMERS = "transformers:"

BY_KIND = {"dpt": "disparity", "glpn": "depth", "zoedepth": "depth", "depth_pro": "depth"}
"""What models of transformers give, by their kind; of Depth Anything the configuration says it."""


@dataclass(frozen=True)
class Source:
    """Something that takes images for depth.

    Attributes:
        note: What it is, in a form that can be written down; equal notes, equal depth.
        depth: Images (3, H, W) float32 in [0, 1] to depth up to scale and shift, (H, W) float32 each, on the CPU;
            larger is farther.
    """

    note: dict[str, Any]
    depth: Callable[[Sequence[Tensor]], list[Tensor]]


def open_source(reference: str | Path, *, gives: str = "", device: str = "auto") -> Source:
    """Return the source that a string means.

    Args:
        reference: A checkpoint of ours, or `transformers:NAME_OR_PATH`.
        gives: "depth" or "disparity", for a model of transformers whose kind does not tell; "" asks the model.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises:
        CheckpointError: There is no such model, or it gives no depth.
        DataError: `gives` is something else, or is needed, or is said of a checkpoint of ours.
        DeviceError: The device is not here.
    """
    if gives and gives not in GIVES:
        raise DataError(f"expected gives={' or '.join(GIVES)}, found {gives!r}; leave it out to ask the model")
    where = pick_device(device)
    if str(reference).startswith(TRANSFORMERS):
        return _of_transformers(str(reference).removeprefix(TRANSFORMERS), gives, where)
    if gives:
        raise DataError(f"gives={gives}: a checkpoint of ours knows what it gives; leave it out")
    return _of_checkpoint(Path(reference), where)


def _of_checkpoint(path: Path, device: torch.device) -> Source:
    """Return the source that a checkpoint of ours is."""
    if not path.is_file() or not is_ckaprobe_checkpoint(path):
        found = "another file" if path.is_file() else "nothing"
        raise CheckpointError(
            f"expected a checkpoint of `ckaprobe train` or transformers:NAME_OR_PATH, found {found} at {path}; train a "
            "stage with task 'teacher'"
        )
    header = read_header(path)
    task = header.task if header else ""
    if task not in TASKS_OF_DEPTH:
        raise CheckpointError(
            f"{path}: expected a model that gives depth (task {', '.join(TASKS_OF_DEPTH)}), found task {task!r}; train "
            "a stage with task 'teacher'"
        )
    trained = load_trained(path)
    trained.backbone.to(device), trained.head.to(device)
    note = {"source": "checkpoint", "sha256": file_hash(path), "task": task, "size": list(trained.task.size)}
    predict = _squeezed if task == "teacher" else _in_windows
    return Source(note, partial(_predicted, trained, predict, device))


@torch.inference_mode()
def _predicted(trained: Trained, predict: Callable, device: torch.device, images: Sequence[Tensor]) -> list[Tensor]:
    """Return the depth that a trained network predicts for images."""

    task: Any = trained.task  # one of TASKS_OF_DEPTH, which all predict

    def forward(images: Tensor) -> Tensor:
        return task.predict(trained.backbone, trained.head, images.to(device)).float().cpu()

    with full_float32(device):
        return predict(forward, images, tuple(trained.task.size))


def _squeezed(forward: Callable[[Tensor], Tensor], images: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """Return the depth of images, each scaled to the network's size as a whole."""
    shown = torch.stack([resized({"image": image}, size)["image"] for image in images])
    return [_at_size(depth, image) for depth, image in zip(forward(shown), images, strict=True)]


def _in_windows(forward: Callable[[Tensor], Tensor], images: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """Return the depth of images, each seen in windows of its own ratio."""
    return [predict_whole(forward, image[None], size)[0, 0] for image in images]


def _at_size(depth: Tensor, image: Tensor) -> Tensor:
    """Return depth (1, h, w) at the size of an image, (H, W)."""
    return interpolate(depth[None], image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]


def _of_transformers(name: str, gives: str, device: torch.device) -> Source:
    """Return the source that a depth model of transformers is."""
    try:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation
    except ImportError as error:
        raise CheckpointError(
            f"{TRANSFORMERS}{name}: expected the package transformers, found none; pip install "
            "'cka-probe[transformers]'"
        ) from error
    try:
        processor = AutoImageProcessor.from_pretrained(name)
        model = AutoModelForDepthEstimation.from_pretrained(name).eval().to(device)
    except Exception as error:  # hubs fail in as many ways as there are networks
        raise CheckpointError(
            f"{TRANSFORMERS}{name} could not be had: {str(error).strip().splitlines()[0]}; give a depth-estimation "
            "model with its preprocessor_config.json, or a folder of one"
        ) from error
    gives = gives or said_by(model.config)
    note = {
        "source": "transformers",
        "architecture": type(model).__name__,
        "weights": weights_hash(model),
        "processor": sha256(json.dumps(processor.to_dict(), sort_keys=True, default=str).encode()).hexdigest(),
        "gives": gives,
    } | ({"farthest": FARTHEST} if gives == "disparity" else {})
    return Source(note, partial(_estimated, model, processor, gives))


def said_by(config: Any) -> str:
    """Return what a model of transformers gives, by its configuration.

    Raises:
        DataError: It does not tell.
    """
    kind = config.model_type
    if "depth_anything" in kind and hasattr(config, "depth_estimation_type"):
        return {"relative": "disparity", "metric": "depth"}[config.depth_estimation_type]
    if kind not in BY_KIND:
        raise DataError(
            f"expected a model of which is known whether it gives depth or disparity ({', '.join(BY_KIND)}, "
            f"depth_anything), found {kind!r}; say --gives depth or --gives disparity"
        )
    return BY_KIND[kind]


@torch.inference_mode()
def _estimated(model: Any, processor: Any, gives: str, images: Sequence[Tensor]) -> list[Tensor]:
    """Return the depth of images by a model of transformers; one at a time, for sizes may differ."""
    depths, unpad = [], processor.post_process_depth_estimation
    for image in images:
        size = [tuple(image.shape[-2:])]
        inputs = processor(images=[image], return_tensors="pt", do_rescale=False).to(model.device)
        padded = {"source_sizes": size} if "source_sizes" in inspect.signature(unpad).parameters else {}
        with full_float32(model.device):
            found = unpad(model(**inputs), target_sizes=size, **padded)[0]["predicted_depth"]
        found = found.float().cpu().reshape(size[0])
        depths.append(depth_of_disparity(found) if gives == "disparity" else found)
    return depths


def depth_of_disparity(disparity: Tensor) -> Tensor:
    """Return depth, 1 at the nearest point and `FARTHEST` at the farthest, of one image's disparity.

    Args:
        disparity: Any shape, float; up to a scale above 0 and a shift.

    Returns:
        The same shape, without unit; `FARTHEST` everywhere if the disparity does not vary.

    >>> depth_of_disparity(torch.tensor([-3.0, 6.0, 0.0]))
    tensor([10.0000,  1.0000,  2.5000])
    """
    low, high = disparity.min(), disparity.max()
    share = (disparity - low) / torch.where(high > low, high - low, 1)
    return 1 / (1 / FARTHEST + (1 - 1 / FARTHEST) * share)


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
