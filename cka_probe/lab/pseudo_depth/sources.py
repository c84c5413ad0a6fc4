"""Where pseudo-depth comes from: a checkpoint of ours, or a depth model of transformers.

    run/teacher.safetensors                          a teacher, or any task of ours that predicts depth
    transformers:NAME_OR_PATH                        as `AutoModelForDepthEstimation` finds it

A teacher sees an image whole, squeezed into its input, as it did when it was evaluated; networks that were trained
on boxes of the image's own ratio see windows of it (`tasks.whole`).

Models that were trained on disparity (DPT, Depth Anything) give it up to scale and shift, and the inverse of that is
no depth: it depends on the shift. Here the shift is such that the farthest point of each image is `FARTHEST` times
as far as its nearest,

    q = (disparity - min) / (max - min),    depth = 1 / (1 / FARTHEST + (1 - 1 / FARTHEST) q)

which keeps the order of depth and its edges and bends planes a little. `gives` says which of the two a model gives
where its kind does not tell.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cka_probe.errors import CheckpointError, DataError
from cka_probe.lab.tasks.sliding_window import predict_whole
from cka_probe.lab.transforms import resized
from cka_probe.models.checkpoint import file_hash, read_header
from cka_probe.models.checkpoints import is_ours
from cka_probe.models.devices import pick_device
from cka_probe.models.load import weights_hash
from cka_probe.models.recording import full_float32
from cka_probe.models.trained import Trained, load_trained

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
    if not path.is_file() or not is_ours(path):
        found = "another file" if path.is_file() else "nothing"
        raise CheckpointError(
            f"expected a checkpoint of `ckaprobe train` or transformers:NAME_OR_PATH, found {found} at {path}; train a "
            "stage with task 'teacher'"
        )
    task = read_header(path).task
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
    """Return the depth of images by a network of ours."""

    def forward(images: Tensor) -> Tensor:
        return trained.task.predict(trained.backbone, trained.head, images.to(device)).float().cpu()

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
def _estimated(model: torch.nn.Module, processor: Any, gives: str, images: Sequence[Tensor]) -> list[Tensor]:
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
