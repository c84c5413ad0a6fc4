"""Trainers of a small masked autoencoder on random images, for tests in this process and in others."""

import torch

from cka_probe.lab.training.batch_norm import share_batch_norms
from cka_probe.lab.training.recipe import Stage
from cka_probe.lab.training.run import accelerator_for
from cka_probe.lab.training.sampling import Samples
from cka_probe.lab.training.start import checkpoint_blocks, drop_paths, seeded
from cka_probe.lab.training.trainer import Objective, Trainer
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint

DEPTHS = {"swinv2_micro": {"depths": (1, 1, 2, 1)}, "resnet18": {}}


class DrawnSamples(Samples):
    """Random images."""

    def __init__(self, count=8):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"image": torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(index))}


def backbone_of(name):
    return Backbone(seeded(lambda: ARCHITECTURES[name].build(size=64, **DEPTHS[name]), 0), size=64)


def stage_of(**keys):
    return Stage(**{"name": "masked", "task": "masked", "data": ("memory",), "steps": 3, "batch": 8, "lr": 1e-3,
                    "size": 64, "log_every": 1, "options": {"cell": 16}} | keys)  # fmt: skip


def trainer_of(folder, encoder="swinv2_micro", **keys):
    folder.mkdir(exist_ok=True)
    stage, accelerator = stage_of(**keys), accelerator_for("cpu", "no")
    backbone, task = backbone_of(encoder), stage.build_task()
    drop_paths(backbone.model, stage.drop_path)
    checkpoint_blocks(backbone.model, stage.checkpointing)
    objective = Objective(backbone.train(), seeded(lambda: task.head(backbone), 1).train(), task)
    if stage.sync_batch_norm:
        share_batch_norms(objective)
    return Trainer(stage, 0, objective, (DrawnSamples(), DrawnSamples(0)), accelerator, folder)


def save_small_model(path):
    """Write the checkpoint of an untrained masked autoencoder of 1.4 MB."""
    backbone, task = backbone_of("swinv2_micro"), stage_of().build_task()
    options = {"size": 64, "depths": DEPTHS["swinv2_micro"]["depths"]}
    header = Checkpoint("swinv2_micro", options, IMAGENET_MEAN, IMAGENET_STD, task="masked", task_options={"cell": 16})
    save_checkpoint(path, backbone, task.head(backbone), header)
    return path
