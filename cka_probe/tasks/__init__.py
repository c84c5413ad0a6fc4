"""What a backbone can be trained for; one line each."""

from cka_probe.tasks.classification import Classification
from cka_probe.tasks.contrastive import Contrastive
from cka_probe.tasks.depth import Depth
from cka_probe.tasks.flow import Flow
from cka_probe.tasks.geometric import Geometric
from cka_probe.tasks.inpainting import Inpainting
from cka_probe.tasks.lidar import Lidar
from cka_probe.tasks.masked import Masked
from cka_probe.tasks.monodepth import Monodepth
from cka_probe.tasks.pseudo_depth import PseudoDepth
from cka_probe.tasks.scene_class import SceneClass
from cka_probe.tasks.segmentation import Segmentation
from cka_probe.tasks.task import Task as Task
from cka_probe.tasks.teacher import Teacher

TASKS: dict[str, type[Task]] = {
    "masked": Masked,
    "depth": Depth,
    "geometric": Geometric,
    "pseudo_depth": PseudoDepth,
    "teacher": Teacher,
    "classification": Classification,
    "monodepth": Monodepth,
    "lidar": Lidar,
    "contrastive": Contrastive,
    "scene_class": SceneClass,
    "flow": Flow,
    "inpainting": Inpainting,
    "segmentation": Segmentation,
}
