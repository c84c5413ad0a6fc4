"""The arms of the study, and its scales: which recipe, on which data, compared over how many images.

An arm is one way of pre-training, followed by the same fine-tuning for depth. The paper's own arms come first and in
its order: MP (masked), then GP (geometric) after it, then SP (supervised by pseudo-depth) after that, on rooms as in
LSUN and on objects as in ImageNet. The paper has no arm without pre-training and none with labels; a reader asks for
both. Two controls fine-tune MP in another way, to separate what fine-tuning does to a layer from how it was done.

The paper's data are LSUN and ImageNet for masked pre-training, videos of NYUv2 for the geometric stages, NYUv2 for
fine-tuning and iBims-1 for what was never seen. `Scale.scenes` are the ones that are generated where no path is given,
each from its own seed and in the layout of the real data set, so that the same readers read both. Every table says
which data were generated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cka_probe.lab.scenes import USUAL_STYLE, Settings


@dataclass(frozen=True)
class Arm:
    """One way of pre-training, and its fine-tuning.

    Attributes:
        name: The paper's label, or a description where the paper has none.
        pre: Stage whose checkpoint ends pre-training; `random` is the untrained network, which has none.
        tuned: Stage whose checkpoint ends fine-tuning for depth.
    """

    name: str
    pre: str
    tuned: str


ROOMS = (
    Arm("MP", "mp", "mp_depth"),
    Arm("MP+GP", "gp", "gp_depth"),
    Arm("MP+GP+SP", "sp", "sp_depth"),
)
"""Pre-trained on rooms, as the paper on LSUN."""

OBJECTS = (
    Arm("MP (ImageNet-like)", "mp_imagenet", "mp_imagenet_depth"),
    Arm("MP+GP (ImageNet-like)", "gp_imagenet", "gp_imagenet_depth"),
    Arm("MP+GP+SP (ImageNet-like)", "sp_imagenet", "sp_imagenet_depth"),
)
"""Masked pre-training on objects, as the paper on ImageNet; the later stages see the same rooms."""

BASELINES = (
    Arm("supervised", "supervised", "supervised_depth"),
    Arm("no pre-training", "random", "random_depth"),
)
"""Not in the paper."""

CONTROL_ARMS = (
    Arm("MP, no layer decay", "mp", "mp_depth_flat"),
    Arm("MP, plain input", "mp", "mp_depth_plain"),
)
"""Fine-tuned with one learning rate for all layers; fine-tuned on images in [0, 1] less no mean, as MIM-Depth."""

ARMS = (*ROOMS, *OBJECTS, *BASELINES)
"""All arms that are fine-tuned alike, in the order of the tables."""

TRAINED_ON = ("lsun", "imagenet", "videos", "nyuv2")
"""The data of a recipe by name, as its `[data]` has them."""

NEEDED = (*TRAINED_ON, "ibims1")
"""The data of a study, with `rooms` where a teacher is trained."""

TESTS = {"in": "nyuv2:{nyuv2}:test", "out": "ibims1:{ibims1}"}
"""What fine-tuned models are scored on: in and out of the distribution they were tuned on."""

STANDS_FOR = {
    "lsun": "LSUN: masked pre-training on rooms",
    "imagenet": "ImageNet: masked and supervised pre-training on objects",
    "videos": "videos of NYUv2: GP and SP",
    "nyuv2": "NYUv2: fine-tuning, scores in distribution, images of the similarities",
    "ibims1": "iBims-1: scores out of distribution",
    "rooms": "what the depth network behind the pseudo-depth learns from",
}
"""The data of a study: which data set of the paper, and what for."""


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        recipe: Bundled; trains every arm.
        teacher: Bundled; trains the network whose depth the videos get, "" where they come with pseudo-depth.
        num: Images that layers are compared over.
        scenes: What is generated where no path is given, by name of the data.
        teacher_settings: More `--set` of the teacher's recipe.
    """

    recipe: str
    teacher: str
    num: int
    scenes: Mapping[str, Settings]
    teacher_settings: tuple[str, ...] = ()


def _rooms(
    seed: int,
    num: int,
    size: tuple[int, int],
    *,
    layout: str,
    frames: int = 1,
    test: float = 0.0,
    style: str = USUAL_STYLE,
) -> Settings:
    return Settings("rooms", num=num, seed=seed, size=size, frames=frames, test=test, layout=layout, style=style)


def _scenes(
    images: int, videos: int, tuned: tuple[int, float], others: int, size: tuple[int, int]
) -> Mapping[str, Settings]:
    """Return the generated data sets of a study.

    Args:
        images: Of the LSUN-like and of the ImageNet-like set, each.
        videos: Scenes of seven frames.
        tuned: Rooms for fine-tuning and testing, and the share for testing.
        others: Rooms that the teacher learns from; half as many are the test out of distribution.
        size: (height, width) in pixels.
    """
    rooms, share = tuned
    large = (size[0] * 5 // 4, size[1] * 5 // 4)
    return MappingProxyType(
        {
            "lsun": _rooms(101, images, size, layout="lsun"),
            "imagenet": Settings("objects", num=images, seed=102, size=size, frames=1, test=0.0, layout="imagenet"),
            "videos": _rooms(103, videos, size, layout="sc_depth", frames=7, test=0.2),
            "nyuv2": _rooms(104, rooms, size, layout="nyuv2", test=share),
            "ibims1": _rooms(105, others // 2, large, layout="ibims1", style="hall"),
            "rooms": _rooms(106, others, size, layout="nyuv2", test=0.2, style="evening"),
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
