"""At what scale: which recipe, on what data, compared over how many images.

The paper's data are LSUN and ImageNet for masked pre-training, videos of NYUv2 for the geometric stages, NYUv2 for
fine-tuning and iBims-1 for what was never seen. `scenes` says which of them are drawn where no path is given: by
the layouts of the real sets, so that the same readers read both, each from a seed of its own. A set drawn is
called so in every table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cka_probe.lab.scenes import Settings

TRAINED_ON = ("lsun", "imagenet", "videos", "nyuv2")
"""The data of a recipe by name, as its `[data]` has them."""

NEEDED = (*TRAINED_ON, "ibims1")
"""The data of a study; `rooms` besides, where a teacher is trained."""

TESTS = {"in": "nyuv2:{nyuv2}:test", "out": "ibims1:{ibims1}"}
"""What fine-tuned models are scored on: more of what they were tuned on, and what is unlike it."""


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        recipe: Bundled; trains every arm.
        teacher: Bundled; trains the network whose depth the videos get, "" where they come with pseudo-depth.
        num: Images that layers are compared over.
        scenes: What is drawn where no path is given, by name of the data.
        settings: More `--set` of the teacher's recipe.
    """

    recipe: str
    teacher: str
    num: int
    scenes: Mapping[str, Settings]
    teacher_settings: tuple[str, ...] = ()


def _rooms(seed: int, num: int, size: tuple[int, int], **more: object) -> Settings:
    return Settings("rooms", num=num, seed=seed, size=size, **more)


def _scenes(images: int, videos: int, tuned: tuple[int, float], others: int, size: tuple[int, int]) -> Mapping:
    """Return the procedural sets of a study.

    Args:
        images: Of the LSUN-like and of the ImageNet-like set, as many in one as in the other.
        videos: Scenes of seven frames.
        tuned: Rooms for fine-tuning and testing, and the share for testing.
        others: Rooms that the teacher learns from; half as many test what is unlike the rest.
        size: (height, width) in pixels.
    """
    rooms, share = tuned
    large = tuple(side * 5 // 4 for side in size)
    return MappingProxyType(
        {
            "lsun": _rooms(101, images, size, frames=1, test=0.0, layout="lsun"),
            "imagenet": Settings("objects", num=images, seed=102, size=size, frames=1, test=0.0, layout="imagenet"),
            "videos": _rooms(103, videos, size, frames=7, test=0.2, layout="sc_depth"),
            "nyuv2": _rooms(104, rooms, size, frames=1, test=share, layout="nyuv2"),
            "ibims1": _rooms(105, others // 2, large, frames=1, test=0.0, layout="ibims1", style="hall"),
            "rooms": _rooms(106, others, size, frames=1, test=0.2, layout="nyuv2", style="evening"),
        }
    )


SCALES = {
    "demo": Scale("mesa_demo", "teacher", 256, _scenes(480, 160, (560, 256 / 560), 240, (96, 128))),
    "gpu": Scale(
        "mesa_gpu",
        "teacher",
        512,
        _scenes(8000, 1200, (4512, 512 / 4512), 2000, (192, 256)),
        ("size=192", "architecture=resnet50", "teacher.steps=3000", "teacher.batch=64", "teacher.precision=bf16"),
    ),
    "paper": Scale("mesa_paper", "", 654, MappingProxyType({})),
}
