"""Tasks that a backbone can be trained for, by name, each loaded on first use."""

from cka_probe.lab.tasks.task import Task as Task

TASKS: dict[str, str | type[Task]] = {
    "masked": "cka_probe.lab.tasks.masked:Masked",
    "depth": "cka_probe.lab.tasks.depth:Depth",
    "geometric": "cka_probe.lab.tasks.geometric:Geometric",
    "pseudo_depth": "cka_probe.lab.tasks.pseudo_depth:PseudoDepth",
    "teacher": "cka_probe.lab.tasks.teacher:Teacher",
    "classification": "cka_probe.lab.tasks.classification:Classification",
    "monodepth": "cka_probe.lab.tasks.monodepth:Monodepth",
    "lidar": "cka_probe.lab.tasks.lidar:Lidar",
    "contrastive": "cka_probe.lab.tasks.contrastive:Contrastive",
    "scene_class": "cka_probe.lab.tasks.scene_class:SceneClass",
    "flow": "cka_probe.lab.tasks.flow:Flow",
    "inpainting": "cka_probe.lab.tasks.inpainting:Inpainting",
    "detection": "cka_probe.lab.tasks.detection:Detection",
    "segmentation": "cka_probe.lab.tasks.segmentation:Segmentation",
}
