"""The arms and the cases of the study, and the tables that show them.

An *arm* is one way of pre-training the encoder. A *case* is one way of fine-tuning an arm for semantic segmentation,
and is run several times (*trials*): each trial draws another training set, another head, another order of images.
The learning rate is chosen for each arm and data set by trying a few on held-out images (`Case.base`), and all other
cases of that arm on that data use it.
"""

from dataclasses import dataclass, replace
from typing import Any

from cka_probe import registry

NONE = "none"
"""The arm without pre-training."""

ARMS = {
    "none": "no pre-training",
    "classification": "procedural object classification",
    "scene_class": "classes in a street scene",
    "video": "depth from video",
    "stereo": "depth from stereo",
    "video_stereo": "depth from video and stereo",
    "lidar": "measured depth (LiDAR)",
    "video_classification": "depth after classification",
    "flow": "optical flow",
    "inpainting": "inpainting",
    "masked": "masked patches",
    "contrastive": "contrastive (MoCo v2)",
    "cityscapes_depth": "depth from disparity",
    "cityscapes_cropped": "depth from disparity, random crops",
    "rooms_depth": "measured depth of rooms",
}
"""Label of every arm in tables of procedural data, by its stage of the pre-training recipe."""

MODES = {
    "all": "encoder and, where the arm has one, decoder begin as pre-trained; everything learns",
    "encoder": "the encoder begins as pre-trained, the head is new; everything learns",
    "frozen": "as `all`, but the encoder does not change",
}

NETWORKS = {
    "skip": "Monodepth2's decoder",
    "deeplab": "DeepLabV3, output stride 16",
    "linear": "one linear layer on the last map",
}
"""Heads of the segmentation task."""

DATA = {
    "kitti": "streets, KITTI's 19 classes",
    "cityscapes": "streets, Cityscapes' 19 classes",
    "rooms": "rooms, NYU's 13 classes",
}
"""Data that cases are fine-tuned and tested on."""

SIZES = {"low": 0.5, "high": 2.0}
"""Factors of the recipe's input sides."""

CASE_WORDS = (
    dict.fromkeys(DATA, "data")
    | dict.fromkeys(NETWORKS, "network")
    | dict.fromkeys(MODES, "mode")
    | dict.fromkeys(SIZES, "size")
)
"""Words in the name of a case, and which attribute of it they are."""

QUIRKS = {
    "accumulated_gradients": "gradients are never set to zero",
    "unfrozen_encoder": "freezing the encoder stops its batch norms' statistics only",
    "bicubic_labels": "label images are resized like images",
    "normalised_twice": "ImageNet's normalisation, then the encoder's own",
    "rate_per_epoch": "the learning rate is set once an epoch",
    "unmirrored": "no image is mirrored",
    "first_images": "the first N images are trained on",
}
"""Where the released code differs from the paper; all of them together are `protocol = "released"`."""


@dataclass(frozen=True)
class Case:
    """One way of fine-tuning.

    Attributes:
        arm: In `ARMS`.
        data: In `DATA`.
        network: In `NETWORKS`.
        mode: In `MODES`.
        num: Training images; 0 is the scale's default.
        size: In `SIZES`, or "" for the scale's input size.
        quirks: In `QUIRKS`.
    """

    arm: str
    data: str = "kitti"
    network: str = "skip"
    mode: str = "all"
    num: int = 0
    size: str = ""
    quirks: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Case":
        """Return the case of a name, in any order after the arm and without what is by default.

        Raises:
            UnknownNameError: A word is none of a case.

        >>> Case.of("flow~frozen~n4") == Case("flow", mode="frozen", num=4)
        True
        >>> Case.of("video~unmirrored").quirks
        ('unmirrored',)
        """
        arm, *words = text.split("~")
        fields: dict[str, Any] = {}
        for word in words:
            if word in CASE_WORDS:
                fields[CASE_WORDS[word]] = word
            elif word.startswith("n") and word[1:].isdecimal():
                fields["num"] = int(word[1:])
            else:
                quirks = {quirk: (quirk,) for quirk in QUIRKS} | {"released": tuple(QUIRKS)}
                fields["quirks"] = registry.get(quirks, word, "quirk")
        return cls(arm, **fields)

    @property
    def name(self) -> str:
        """Name of its folder.

        >>> Case("video").name, Case("flow", mode="frozen", num=4).name
        ('video~kitti~skip~all', 'flow~kitti~skip~frozen~n4')
        """
        quirks = ("released",) if self.quirks == tuple(QUIRKS) else self.quirks
        more = [f"n{self.num}" if self.num else "", self.size, *quirks]
        return "~".join([self.arm, self.data, self.network, self.mode, *filter(None, more)])

    @property
    def model(self) -> str:
        """Name, in fingerprints and similarities, of the network that its first trial fine-tuned."""
        return f"{self.name}~trial0"

    @property
    def base(self) -> "Case":
        """The case whose learning rate it uses."""
        return Case(self.arm, self.data)


def cases_of_arms(
    arms: str, data: str = "kitti", network: str = "skip", mode: str = "all", size: str = ""
) -> tuple[Case, ...]:
    """Return a case for each arm; `arms` are separated by spaces."""
    return tuple(Case(arm, data, network, mode, size=size) for arm in arms.split())


QUIRKED = {
    "unfrozen_encoder": Case("video", mode="frozen"),
    "normalised_twice": Case("classification", mode="frozen"),
}
"""Cases on which a quirk is run alone, where it does not affect the default one."""

MAIN = "none classification video video_classification"

TABLES: dict[str, tuple[Case, ...]] = {
    "table1": (*cases_of_arms(MAIN), *cases_of_arms(MAIN, mode="frozen")),
    "table1_deeplab": (*cases_of_arms(MAIN, network="deeplab"), *cases_of_arms(MAIN, network="deeplab", mode="frozen")),
    "table2": cases_of_arms("video stereo video_stereo lidar"),
    "table3": cases_of_arms("video video_classification stereo lidar", mode="encoder"),
    "table4": cases_of_arms("none classification scene_class video lidar flow inpainting masked contrastive"),
    "table5": cases_of_arms(
        "none classification cityscapes_depth cityscapes_cropped", data="cityscapes", network="deeplab"
    ),
    "table6": cases_of_arms(f"{MAIN} contrastive", network="linear", mode="frozen"),
    "figure3": tuple(Case(arm, num=num) for arm in ("none", "classification", "video") for num in (4, 64)),
    "figure5": tuple(Case(arm, size=size) for arm in ("none", "video") for size in ("low", "high")),
    "figure7": (*cases_of_arms("flow"), *cases_of_arms("flow", mode="frozen")),
    "figure8": cases_of_arms("none classification rooms_depth", data="rooms"),
    "quirks": (
        *(replace(QUIRKED.get(quirk, Case("video")), quirks=(quirk,)) for quirk in QUIRKS),
        *(Case(arm, mode=mode, quirks=tuple(QUIRKS)) for arm in MAIN.split()[:3] for mode in ("all", "frozen")),
    ),
}
"""The cases of each table or figure; a scale may run only some of them."""

FIGURE6 = tuple(Case(arm) for arm in MAIN.split())
"""The networks of the paper's Figure 6."""

ALL = tuple(table for table in TABLES if table != "quirks")
"""The tables that a study can select; `quirks` comes with the protocol "released"."""
