"""The smallest study of Depth-to-Semantic: recipes of two steps, a few scenes, three arms."""

from types import MappingProxyType

from cka_probe.lab.scenes import Settings
from cka_probe.papers.depth_to_semantic.study import Case, Scale

PRE = """
name = "tiny_pre"
architecture = "resnet18"
size = 64
[data]
objects = ""
kitti = ""
cityscapes = ""
rooms = ""
[stages.classification]
task = "classification"
start = "random"
data = "imagenet:{objects}:train"
steps = 2
batch = 2
lr = 1e-3
options = { classes = 37 }
[stages.lidar]
task = "lidar"
start = "random"
data = "kitti:{kitti}:train"
steps = 2
batch = 2
lr = 1e-3
normalisation = "sc_depth"
[stages.video_classification]
like = "lidar"
start = "classification"
"""

SEGMENT = """
name = "tiny_segment"
architecture = "resnet18"
size = 64
[data]
train = ""
[stages.segment]
task = "segmentation"
data = "{train}"
steps = 2
batch = 2
lr = 1e-3
num = 3
held_out = 4
weight_decay = 0.0
options = { classes = 19 }
"""

CASES = (
    Case("none"),
    Case("classification"),
    Case("none", mode="frozen"),
    Case("classification", mode="frozen"),
    Case("lidar"),
)
"""All that is run of two tables without some arms."""

SCENES = MappingProxyType(
    {
        "objects": Settings("objects", num=8, frames=1, size=(64, 64), seed=3, test=0.0, layout="imagenet"),
        "kitti": Settings("streets", num=2, frames=1, size=(64, 64), seed=1, test=0.0, layout="kitti"),
        "kitti_labels": Settings(
            "streets", num=14, frames=1, size=(64, 64), seed=2, test=0.0, layout="kitti_semantics"
        ),
    }
)


def tiny(folder, **changed):
    """Return a scale whose recipes are written into a folder."""
    for name, text in (("pre", PRE), ("segment", SEGMENT)):
        (folder / f"{name}.toml").write_text(text, "utf-8")
    fields = {
        "pre": str(folder / "pre.toml"),
        "segment": str(folder / "segment.toml"),
        "scenes": SCENES,
        "rates": (1e-3, 1e30),  # at the second the loss stops being a number
        "tables": ("table1", "table2"),
        "without": ("video", "stereo", "video_stereo", "video_classification"),
        "trials": 1,
        "tested": 6,
        "num": 6,
        "calibrate": 1,
        "case_keys": {"high": {"size": [128, 128]}},
    }
    return Scale(**fields | changed)
