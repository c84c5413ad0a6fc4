"""Checkpoints of untrained networks."""

import torch

from cka_probe import registry
from cka_probe.lab.tasks import TASKS
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint


def save_model(path, task="teacher", seed=0):
    """Write a checkpoint of an untrained resnet18 for a task, as a stage would."""
    torch.manual_seed(seed)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64)
    options = {"cell": 16} if task == "masked" else {}
    head = registry.get(TASKS, task, "task")((64, 64), **options).head(backbone)
    header = Checkpoint("resnet18", {"size": 64}, IMAGENET_MEAN, IMAGENET_STD, task=task, task_options=options)
    save_checkpoint(path, backbone, head, header)
    return path


def save_dpt(folder, kind="dpt", metric=False):
    """Write a tiny, untrained depth model of transformers and how it wants its images."""
    from transformers import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        DPTConfig,
        DPTForDepthEstimation,
        DPTImageProcessor,
    )

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "initializer_range": 0.3}
    if kind == "dpt":
        config = DPTConfig(
            **small, intermediate_size=32, image_size=32, patch_size=16, backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
        )  # fmt: skip
        model = DPTForDepthEstimation(config)
    else:
        backbone = Dinov2Config(
            **small, mlp_ratio=2, image_size=28, patch_size=14, out_features=["stage1", "stage2", "stage3", "stage4"],
            reshape_hidden_states=False, apply_layernorm=True,
        )  # fmt: skip
        config = DepthAnythingConfig(
            backbone_config=backbone, reassemble_hidden_size=16, patch_size=14, initializer_range=0.3,
            neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, head_hidden_size=8,
            depth_estimation_type="metric" if metric else "relative",
        )  # fmt: skip
        model = DepthAnythingForDepthEstimation(config)
    model.save_pretrained(folder)
    side = 32 if kind == "dpt" else 56
    DPTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return model.eval(), f"transformers:{folder}"
