"""Procedural scenes with all fields of a sample, rendered on demand and without files.

    scenes:rooms?num=100&frames=3&sources=-1,1        rooms, streets or objects (see `scenes.SCENES`)
    scenes:rooms?style=evening                        rooms of another style (see `scenes.STYLES`)

The path of this dataset is the kind of scene. Only requested fields are rendered: flow and the stereo partner cost
nothing unless needed. `ckaprobe data make` writes the same scenes to files, with quantised ground truth.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES, NYU13, Classes
from cka_probe.images.datasets import check_split
from cka_probe.lab.datasets.frames import Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import rigid
from cka_probe.lab.scenes import SCENES, USUAL_STYLE, Scene, View, check_style, draw_scene, parse_size, see
from cka_probe.lab.scenes.objects import OBJECTS
from cka_probe.lab.scenes.room import CATEGORIES as ROOMS

FrameKey = tuple[str, int, int, int, str, int, tuple[int, int]]  # kind, seed, index, frames, style, frame, size

CATEGORIES = {"rooms": ROOMS, "streets": ("street",), "objects": tuple(OBJECTS)}
CLASSES = {"rooms": NYU13, "streets": CITYSCAPES, "objects": Classes(tuple(OBJECTS))}
UPRIGHT = 0.1  # largest vertical part of the normal of a wall, and 1 - that of a floor


def scenes(
    kind: str,
    split: str = "all",
    *,
    num: int = 100,
    frames: int = 2,
    size: str = "128x96",
    seed: int = 0,
    sources: str = "",
    style: str = USUAL_STYLE,
) -> Frames:
    """Return frames of procedural scenes with complete ground truth.

    Args:
        kind: A name in `SCENES`.
        split: "train" (the first three quarters of the scenes), "test" (the rest) or "all".
        num: Number of scenes.
        frames: Number of frames of each.
        size: Width x height in pixels.
        seed: Scene i of a seed is the same whatever `num` is.
        sources: Offsets in frames and "s": "-1,1,s".
        style: Style of rooms; other kinds have only the usual one.

    Raises:
        UnknownNameError: There is no such kind, split or style.
        DataError: A number is too small, or the kind does not have the style.
    """
    registry.get(SCENES, kind, "kind of scene")
    check_style(kind, style)
    check_split(split, ("train", "test", "all"), f"scenes:{kind}")
    shape, cut = parse_size(size), num - num // 4
    if num < 1 or frames < 1 or min(shape) < 8:
        raise DataError(
            f"scenes:{kind}: expected at least 1 scene, 1 frame and 8x8 pixels, found num={num}, frames={frames}, "
            f"size={size}; ask for more"
        )
    numbers = {"train": range(cut), "test": range(cut, num), "all": range(num)}[split]
    frames_of_scenes = [
        [_frame((kind, seed, index, frames, style, frame, shape)) for frame in range(frames)] for index in numbers
    ]
    return Frames(frames_of_scenes, parse_sources(sources), f"scenes:{kind}", CLASSES[kind], Classes(CATEGORIES[kind]))


def _frame(key: FrameKey) -> Frame:
    """Return one frame; the last one of a scene has no flow."""
    kind, seed, index, frames, style, frame, _ = key
    fields = {name: partial(_field, name, key) for name in _FIELDS if name != "planes" or kind == "rooms"}
    if frame + 1 == frames:
        fields |= {name: partial(_unknown, name, key) for name in ("flow", "occluded")}
    set_of = kind if style == USUAL_STYLE else f"{kind}_{style}"
    return Frame(f"{set_of}_{seed}/{index:06d}/{frame:05d}", fields)


@lru_cache(maxsize=2)
def _scene(kind: str, seed: int, index: int, frames: int, style: str) -> Scene:
    return draw_scene(kind, seed, index, frames, style)


@lru_cache(maxsize=2)
def _view(key: FrameKey, flow: bool) -> View:
    *which, frame, size = key
    return see(_scene(*which), frame, size, flow=flow)


@lru_cache(maxsize=2)
def _partner(key: FrameKey) -> View:
    *which, frame, size = key
    return see(_scene(*which), frame, size, partner=True)


def _field(name: str, key: FrameKey) -> Tensor:
    """Return a field of a frame."""
    return _FIELDS[name](key)


def _unknown(name: str, key: FrameKey) -> Tensor:
    """Return the flow and occlusion of the last frame, which are unknown."""
    return torch.full((2, *key[-1]), torch.nan) if name == "flow" else torch.ones(1, *key[-1], dtype=torch.bool)


def _of(make: Callable[[View], np.ndarray], flow: bool = False) -> Callable[[FrameKey], Tensor]:
    """Return the reader of a field that is a function of the view."""
    return lambda key: torch.from_numpy(np.ascontiguousarray(make(_view(key, flow))))


def _rendered(field: np.ndarray | None) -> np.ndarray:
    """Return a field that was rendered on request."""
    assert field is not None
    return field


def _image(pixels: np.ndarray) -> np.ndarray:
    """Return (3, H, W) float32 in [0, 1] of (H, W, 3) uint8."""
    return pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def _baseline(key: FrameKey) -> Tensor:
    """Return the pose of the right camera relative to the left one."""
    return torch.from_numpy(rigid(translation=(-_scene(*key[:5]).camera.baseline, 0.0, 0.0))).float()


def _planes(view: View) -> np.ndarray:
    """Return the numbers of walls, tables and floors, (3, H, W) int64."""
    up = np.abs(view.normals.astype(np.float64) @ view.pose[2, :3])  # the vertical part of each normal
    upright = {"wall": up < UPRIGHT, "table": up > 1 - UPRIGHT, "floor": up > 1 - UPRIGHT}
    parts = [view.planes * (fits & (view.labels == NYU13.names.index(name))) for name, fits in upright.items()]
    return np.stack(parts).astype(np.int64)


def _category(key: FrameKey) -> Tensor:
    """Return the class of the whole image, an index into the categories of its kind."""
    return torch.tensor(CATEGORIES[key[0]].index(_scene(*key[:5]).category))


_FIELDS: dict[str, Callable[[FrameKey], Tensor]] = {
    "image": _of(lambda view: _image(view.image)),
    "depth": _of(lambda view: view.depth.astype(np.float32)[None]),
    "K": _of(lambda view: view.K.astype(np.float32)),
    "world_T_target": _of(lambda view: view.pose.astype(np.float32)),
    "flow": _of(lambda view: _rendered(view.flow).transpose(2, 0, 1), flow=True),
    "occluded": _of(lambda view: _rendered(view.occluded)[None], flow=True),
    "labels": _of(lambda view: view.labels.astype(np.int64)),
    "instances": _of(lambda view: view.instances.astype(np.int64)),
    "planes": _of(_planes),
    "normals": _of(lambda view: view.normals.transpose(2, 0, 1)),
    "edges": _of(lambda view: view.edges[None]),
    "category": _category,
    "partner": lambda key: torch.from_numpy(_image(_rendered(_partner(key).partner))),
    "partner_T_target": _baseline,
}
