"""Pseudo-depth: the depth that a network predicts for videos, written where SC-Depth's reader expects it.

**Sources.**

    run/teacher.safetensors                          a teacher, or a checkpoint of any task that predicts depth
    transformers:NAME_OR_PATH                        any model that `AutoModelForDepthEstimation` loads
    res101.pth, res50.pth                            the released networks of LeReS (`lab.leres`)

A teacher receives the whole image, scaled to its input size, as in its evaluation; networks trained on crops of the
image's aspect ratio predict in sliding windows (`tasks.sliding_window`).

Models trained on disparity (DPT, Depth Anything) predict it up to scale and shift, and its inverse depends on the
shift. The shift is such that the farthest point of each image is `FARTHEST` times as far as the nearest,

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
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cka_probe.errors import CheckpointError, DataError, OutputError
from cka_probe.files import atomic_write, disk_errors
from cka_probe.images.reading import images_in, read_aligned_image
from cka_probe.lab.datasets.sc_depth import scene_folders
from cka_probe.lab.evaluation.sliding_window import predict_whole
from cka_probe.lab.leres import SIZE, is_leres, load_leres
from cka_probe.lab.losses import standardised
from cka_probe.lab.scenes.layouts.files import write_affine_depth
from cka_probe.lab.transforms import resized
from cka_probe.models.checkpoint import Trained, file_hash, is_ckaprobe_checkpoint, load_trained, read_header
from cka_probe.models.checkpoints.reading import read_contents
from cka_probe.models.devices import full_float32, pick_device
from cka_probe.models.load import weights_hash
from cka_probe.progress import Progress, reporting

FARTHEST = 10.0
EXPECTED = "expected a checkpoint of `ckaprobe train`, transformers:NAME_OR_PATH, or LeReS's res50.pth or res101.pth"
GIVES = ("depth", "disparity")
TASKS_OF_DEPTH = ("teacher", "depth", "geometric", "pseudo_depth")
TRANSFORMERS = "transformers:"

BY_KIND = {"dpt": "disparity", "glpn": "depth", "zoedepth": "depth", "depth_pro": "depth"}
"""The quantity that models of transformers predict, by type; that of Depth Anything is in its configuration."""


@dataclass(frozen=True)
class Source:
    """A model that predicts depth.

    Attributes:
        note: Description of the source as JSON; sources with equal notes predict equal depth.
        depth: Images (3, H, W) float32 in [0, 1] to depth up to scale and shift, (H, W) float32 each, on the CPU;
            larger is farther.
    """

    note: dict[str, Any]
    depth: Callable[[Sequence[Tensor]], list[Tensor]]


def open_source(reference: str | Path, *, gives: str = "", device: str = "auto") -> Source:
    """Return the source of a reference.

    Args:
        reference: A checkpoint of ckaprobe, `transformers:NAME_OR_PATH`, or a released file of LeReS.
        gives: "depth" or "disparity", for a model of transformers whose type does not determine it.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises:
        CheckpointError: There is no such model, or it does not predict depth.
        DataError: `gives` is invalid, missing, or set for a checkpoint of ckaprobe.
        DeviceError: The device is not available.
    """
    if gives and gives not in GIVES:
        raise DataError(f"expected gives={' or '.join(GIVES)}, found {gives!r}; omit it to ask the model")
    torch_device = pick_device(device)
    if str(reference).startswith(TRANSFORMERS):
        return _of_transformers(str(reference).removeprefix(TRANSFORMERS), gives, torch_device)
    if gives:
        raise DataError(f"gives={gives}: a checkpoint of ckaprobe or LeReS determines it; omit it")
    path = Path(reference)
    if not path.is_file():
        raise CheckpointError(f"{path}: {EXPECTED}, found no such file; check the path")
    return (_of_checkpoint if is_ckaprobe_checkpoint(path) else _of_leres)(path, torch_device)


def _of_checkpoint(path: Path, device: torch.device) -> Source:
    """Return the source of a checkpoint of ckaprobe."""
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


def _of_leres(path: Path, device: torch.device) -> Source:
    """Return the source of a released file of LeReS."""
    tensors = read_contents(path).tensors
    if not is_leres(tensors):
        raise CheckpointError(f"{path}: {EXPECTED}, found other weights; train a stage with task 'teacher'")
    model = load_leres(tensors, path).to(device)
    note = {"source": "leres", "architecture": model.architecture, "weights": weights_hash(model), "size": SIZE}
    return Source(note, model.predict)


@torch.inference_mode()
def _predicted(trained: Trained, predict: Callable, device: torch.device, images: Sequence[Tensor]) -> list[Tensor]:
    """Return the depth that a trained network predicts for images."""

    task: Any = trained.task  # one of TASKS_OF_DEPTH, which all predict

    def forward(images: Tensor) -> Tensor:
        return task.predict(trained.backbone, trained.head, images.to(device)).float().cpu()

    with full_float32(device):
        return predict(forward, images, tuple(trained.task.size))


def _squeezed(forward: Callable[[Tensor], Tensor], images: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """Return the depth of images, each scaled to the network's size."""
    inputs = torch.stack([resized({"image": image}, size)["image"] for image in images])
    return [_at_size(depth, image) for depth, image in zip(forward(inputs), images, strict=True)]


def _in_windows(forward: Callable[[Tensor], Tensor], images: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """Return the depth of images, each predicted in sliding windows."""
    return [predict_whole(forward, image[None], size)[0, 0] for image in images]


def _at_size(depth: Tensor, image: Tensor) -> Tensor:
    """Return depth (1, h, w) at the size of an image, (H, W)."""
    return interpolate(depth[None], image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]


def _of_transformers(name: str, gives: str, device: torch.device) -> Source:
    """Return the source of a depth model of transformers."""
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
    except Exception as error:  # of many types, as hubs and networks fail
        raise CheckpointError(
            f"{TRANSFORMERS}{name} could not be loaded: {str(error).strip().splitlines()[0]}; give a depth-estimation "
            "model with its preprocessor_config.json, or a folder of one"
        ) from error
    gives = gives or quantity_of(model.config)
    note = {
        "source": "transformers",
        "architecture": type(model).__name__,
        "weights": weights_hash(model),
        "processor": sha256(json.dumps(processor.to_dict(), sort_keys=True, default=str).encode()).hexdigest(),
        "gives": gives,
    } | ({"farthest": FARTHEST} if gives == "disparity" else {})
    return Source(note, partial(_estimated, model, processor, gives))


def quantity_of(config: Any) -> str:
    """Return whether a model of transformers predicts "depth" or "disparity", by its configuration.

    Raises:
        DataError: The configuration does not determine it.
    """
    kind = config.model_type
    if "depth_anything" in kind and hasattr(config, "depth_estimation_type"):
        return {"relative": "disparity", "metric": "depth"}[config.depth_estimation_type]
    if kind not in BY_KIND:
        raise DataError(
            f"expected a model that is known to give depth or disparity ({', '.join(BY_KIND)}, depth_anything), found "
            f"{kind!r}; set --gives depth or --gives disparity"
        )
    return BY_KIND[kind]


@torch.inference_mode()
def _estimated(model: Any, processor: Any, gives: str, images: Sequence[Tensor]) -> list[Tensor]:
    """Return the depth of images by a model of transformers, one at a time, as sizes may differ."""
    depths, unpad = [], processor.post_process_depth_estimation
    for image in images:
        size = [tuple(image.shape[-2:])]
        inputs = processor(images=[image], return_tensors="pt", do_rescale=False).to(model.device)
        padded = {"source_sizes": size} if "source_sizes" in inspect.signature(unpad).parameters else {}
        with full_float32(model.device):
            outputs = unpad(model(**inputs), target_sizes=size, **padded)
        prediction = outputs[0]["predicted_depth"].float().cpu().reshape(size[0])
        depths.append(depth_of_disparity(prediction) if gives == "disparity" else prediction)
    return depths


def depth_of_disparity(disparity: Tensor) -> Tensor:
    """Return depth of one image's disparity, 1 at the nearest point and `FARTHEST` at the farthest.

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
        overwrite: Whether to replace pseudo-depth of another or unknown source.
        progress: Called with the number of finished images and of all, at the start and after each batch.

    Returns:
        The folder of each scene.

    Raises:
        CheckpointError: The source is invalid, or predicts NaN or infinity.
        DataError: The data is not SC-Depth's, or an image cannot be read.
        OutputError: There is other pseudo-depth, or the folder is not writable.
    """
    name, _, root = str(data).partition(":")
    if name != "scdepth" or not root:
        raise DataError(f"expected scdepth:DIR, found {str(data)!r}; only SC-Depth's folders hold pseudo-depth")
    scenes = [(folder, images_in(folder)) for folder in scene_folders(root)]
    for folder in (folder for folder, images in scenes if not images):
        raise DataError(f"no images in {folder}: expected frames next to cam.txt; complete the data")
    source = source if isinstance(source, Source) else open_source(source, gives=gives, device=device)
    note = json.dumps({"format": FORMAT} | source.note, indent=1, sort_keys=True) + "\n"
    unfinished = [(folder, images) for folder, images in scenes if not _is_finished(folder, images, note, overwrite)]
    total = sum(len(images) for _, images in scenes)
    done = total - sum(len(images) for _, images in unfinished)
    with reporting(progress) as report:
        report(done, total)
        for folder, images in unfinished:
            with disk_errors(f"pseudo-depth into {folder}"):
                for count in _write_scene(folder, images, source, note):
                    done += count
                    report(done, total)
        for old in [folder / OLD for folder, _ in scenes if (folder / OLD).exists()]:
            with disk_errors(f"pseudo-depth into {old.parent}"):
                shutil.rmtree(old)
    return [folder / FOLDER for folder, _ in scenes]


def _is_finished(scene: Path, images: list[Path], note: str, overwrite: bool) -> bool:
    """Return whether a scene has the pseudo-depth of the source of a note for each image.

    Raises:
        OutputError: It has other pseudo-depth, and `overwrite` is not set.
    """
    folder = scene / FOLDER
    if not folder.exists():
        return False
    path = folder / NOTE
    old = path.read_text("utf-8", errors="replace") if path.is_file() else None
    if old == note:
        return {path.stem for path in folder.glob("*.png")} == {path.stem for path in images}
    if overwrite:
        return False
    origin = "of unknown origin" if old is None else "of another source"
    raise OutputError(
        f"expected no {FOLDER} in {scene}, or one of the same source; found one {origin}; set --overwrite to replace it"
    )


def _write_scene(scene: Path, images: list[Path], source: Source, note: str) -> Iterator[int]:
    """Write the missing images of a scene and publish it; yield the number of images of each batch."""
    making = scene / MAKING
    if making.exists() and (
        not (making / NOTE).is_file() or (making / NOTE).read_text("utf-8", errors="replace") != note
    ):
        shutil.rmtree(making)  # an unfinished run of another source
    if not making.exists():
        with atomic_write(making / NOTE) as temporary:
            temporary.write_text(note, "utf-8", newline="\n")
    paths = {image: making / f"{image.stem}.png" for image in images}
    missing = [image for image, path in paths.items() if not path.exists()]
    if finished := len(images) - len(missing):
        yield finished
    for first in range(0, len(missing), BATCH):
        batch = missing[first : first + BATCH]
        for image, depth in zip(batch, source.depth([read_aligned_image(path) for path in batch]), strict=True):
            _write(paths[image], depth, image)
        yield len(batch)
    for path in set(making.iterdir()) - {making / NOTE, *paths.values()}:
        if path.is_dir():  # of a killed run
            shutil.rmtree(path)
        else:  # of an image that was removed
            path.unlink()
    _publish(scene)


def _write(path: Path, depth: torch.Tensor, image: Path) -> None:
    """Write one image's pseudo-depth."""
    if not depth.isfinite().all():
        raise CheckpointError(f"{image}: expected depth from the source, found NaN or infinity; give a trained model")
    plain = standardised(depth[None, None], torch.ones_like(depth, dtype=torch.bool)[None, None])[0, 0]
    with atomic_write(path) as temporary:
        write_affine_depth(temporary, plain.double().numpy())


def _publish(scene: Path) -> None:
    """Rename a finished folder; if interrupted at any point, the next run can finish it."""
    old = scene / OLD
    if old.exists():
        shutil.rmtree(old)
    if (scene / FOLDER).exists():
        (scene / FOLDER).rename(old)
    (scene / MAKING).rename(scene / FOLDER)
