"""The fine-tunings of the study: what each starts from, what of it learns, on what, and which tables show it.

An *arm* is one way of pre-training the encoder. A *case* is one way of fine-tuning an arm for semantic segmentation,
and is run several times (*trials*): each trial draws another training set, another head, another order of images.
The learning rate is chosen for each arm and data set by trying a few, on images held out from training (`base`),
and all other cases of that arm on that data take the one that was chosen.
"""

from dataclasses import dataclass, replace

from cka_probe import registry

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
"""What every arm is called in tables of procedural data, by the stage of the pre-training recipe that makes it."""

MODES = {
    "all": "encoder and, where the arm has one, decoder begin as pre-trained; everything learns",
    "encoder": "the encoder begins as pre-trained, the head anew; everything learns",
    "frozen": "as `all`, and the encoder stays as it is",
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
"""What is fine-tuned on and tested on."""

QUIRKS = {
    "accumulated_gradients": "gradients are never set to zero",
    "unfrozen_encoder": "freezing the encoder stops its batch norms' statistics only",
    "bicubic_labels": "label images are resized like images",
    "normalised_twice": "ImageNet's normalisation, then the encoder's own",
    "rate_per_epoch": "the learning rate is set once an epoch",
    "unmirrored": "no image is mirrored",
    "first_images": "the first N images are trained on",
}
"""What the released code does otherwise than the paper says; all of them together are `protocol = "released"`."""


@dataclass(frozen=True)
class Case:
    """One way of fine-tuning.

    Attributes:
        arm: In `ARMS`.
        data: In `DATA`.
        network: In `NETWORKS`.
        mode: In `MODES`.
        num: Training images; 0 is the scale's own number.
        size: "" is the scale's own input size; "low" half of it, "high" twice it.
        quirks: In `QUIRKS`.
    """

    arm: str
    data: str = "kitti"
    network: str = "skip"
    mode: str = "all"
    num: int = 0
    size: str = ""
    quirks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return what its folder is called.

        >>> Case("video").name, Case("flow", mode="frozen", num=4).name
        ('video~kitti~skip~all', 'flow~kitti~skip~frozen~n4')
        """
        quirks = ("released",) if self.quirks == tuple(QUIRKS) else self.quirks
        more = [f"n{self.num}" if self.num else "", self.size, *quirks]
        return "~".join([self.arm, self.data, self.network, self.mode, *filter(None, more)])

    @property
    def base(self) -> "Case":
        """Return the case whose learning rate it takes."""
        return Case(self.arm, self.data)


def _cases(arms: str, **how: object) -> tuple[Case, ...]:
    return tuple(Case(arm, **how) for arm in arms.split())


def quirked(quirk: str) -> tuple[Case, Case]:
    """Return a case that a quirk bears on, without it and with it.

    >>> [case.name for case in quirked("unmirrored")]
    ['video~kitti~skip~all', 'video~kitti~skip~all~unmirrored']
    """
    bears = {
        "unfrozen_encoder": Case("video", mode="frozen"),
        "normalised_twice": Case("classification", mode="frozen"),
    }
    registry.get(QUIRKS, quirk, "quirk")
    clean = bears.get(quirk, Case("video"))
    return clean, replace(clean, quirks=(quirk,))


def _quirks() -> tuple[Case, ...]:
    """Return each quirk alone where it bears, and all of them together."""
    alone = (quirked(quirk)[1] for quirk in QUIRKS)
    released = (Case(arm, mode=mode, quirks=tuple(QUIRKS)) for arm in MAIN.split()[:3] for mode in ("all", "frozen"))
    return (*alone, *released)


MAIN = "none classification video video_classification"

TABLES: dict[str, tuple[Case, ...]] = {
    "table1": (*_cases(MAIN), *_cases(MAIN, mode="frozen")),
    "table1_deeplab": (*_cases(MAIN, network="deeplab"), *_cases(MAIN, network="deeplab", mode="frozen")),
    "table2": _cases("video stereo video_stereo lidar"),
    "table3": _cases("video video_classification stereo lidar", mode="encoder"),
    "table4": _cases("none classification scene_class video lidar flow inpainting masked contrastive"),
    "table5": _cases("none classification cityscapes_depth cityscapes_cropped", data="cityscapes", network="deeplab"),
    "table6": _cases(f"{MAIN} contrastive", network="linear", mode="frozen"),
    "figure3": tuple(Case(arm, num=num) for arm in ("none", "classification", "video") for num in (4, 64)),
    "figure5": tuple(Case(arm, size=size) for arm in ("none", "video") for size in ("low", "high")),
    "figure7": (*_cases("flow"), *_cases("flow", mode="frozen")),
    "figure8": _cases("none classification rooms_depth", data="rooms"),
    "quirks": _quirks(),
}
"""The cases that each table or figure shows; a scale may run a part of them, and the others are not run."""
