"""Model files under the names of the projects that published them, written from a library's equivalent model.

The original code of these projects cannot be installed here, so each row takes a model of timm or torchvision, and
renames and wraps its weights as the project does. The rules below are the inverse of those in
`cka_probe.models.checkpoints.foreign`, written from the projects' code.
"""

import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from helpers.model_files import CLIP_MEAN, CLIP_STD, HALF, Case, Cost, Row, randomised, same, save, timm_case
from torch import Tensor, nn

State = dict[str, Tensor]
Rules = Iterable[tuple[str, str]]


def renamed(state: State, rules: Rules) -> State:
    """Return tensors with every rule, a pattern and its replacement, applied to their names."""
    result = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor.clone()
    return result


def prefixed(prefix: str, state: State) -> State:
    """Return tensors with a prefix in front of their names."""
    return {prefix + name: tensor for name, tensor in state.items()}


def zeros(*names: str) -> State:
    """Return a small tensor of each name, for parts that are not of the encoder."""
    return {name: torch.zeros(4, 4) for name in names}


def other(state: State) -> State:
    """Return other values for the same names: the weights of the encoder that must not be loaded."""
    return {name: tensor * 0.5 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def original(
    label: str,
    name: str,
    layers: dict[str, str],
    write: Callable[[State], Any],
    *,
    suffix: str = ".pth",
    cost: Cost = "fast",
    adapt: Callable[[nn.Module], object] = lambda model: None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    bgr: bool = False,
    **options: Any,
) -> Row:
    """Return the row of a timm model whose weights are saved as another project saves them.

    Args:
        label: Project and model.
        name: The model's name in timm.
        layers: See `Case`.
        write: Turns timm's state dict into what the project saves.
        suffix: Of the file: `.pkl` pickles, `.npz` writes arrays, others as in `save`.
        cost: See `Row`.
        adapt: Changes the timm model to what the project computes.
        mean: Of the project's normalisation, if it is not timm's for the model.
        std: Standard deviation.
        bgr: Whether the project's images are BGR.
        **options: Of `timm.create_model`.
    """

    def make(folder: Path) -> Case:
        model = randomised(timm.create_model(name, **{"num_classes": 0, **options}))
        adapt(model)
        contents, path = write(dict(model.state_dict())), folder / f"weights{suffix}"
        if suffix == ".pkl":
            path.write_bytes(pickle.dumps(contents))
        elif suffix == ".npz":
            np.savez(path, **contents)
        else:
            save(contents, path)
        case = timm_case(path, model, layers)
        return Case(path, model, layers, case.size, mean or case.mean, std or case.std, bgr)

    return Row(label, "original names", make, cost)


VIT, LAST_BLOCK = "vit_tiny_patch16_224", same("blocks.0", "blocks.11")
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
DINO_HEAD = ("head.mlp.0.weight", "head.last_layer.weight")


def dino(state: State) -> Any:
    """DINO: student and teacher with heads, the student from DistributedDataParallel."""
    student = prefixed("module.backbone.", other(state)) | prefixed("module.", zeros(*DINO_HEAD))
    return {"student": student, "teacher": prefixed("backbone.", state) | zeros(*DINO_HEAD), "epoch": 1}


def moco_v2(state: State) -> Any:
    """MoCo v2: query and key encoder and a queue."""
    query, key = prefixed("module.encoder_q.", state), prefixed("module.encoder_k.", other(state))
    heads = zeros("module.encoder_q.fc.0.weight", "module.encoder_k.fc.0.weight", "module.queue")
    return {"epoch": 1, "arch": "resnet18", "state_dict": query | key | heads}


def moco_v3(state: State) -> Any:
    """MoCo v3: base and momentum encoder with projectors, and a predictor."""
    base = prefixed("module.base_encoder.", state | zeros("head.0.weight"))
    momentum = prefixed("module.momentum_encoder.", other(state) | zeros("head.0.weight"))
    return {"state_dict": momentum | base | zeros("module.predictor.0.weight"), "arch": "vit_small"}


def mae(state: State) -> Any:
    """MAE: the encoder with its decoder."""
    decoder = zeros("mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_blocks.0.attn.qkv.weight")
    return {"model": state | decoder | zeros("decoder_blocks.0.mlp.fc1.weight", "decoder_norm.weight")}


CLIP_VIT = (
    (r"^patch_embed\.proj\.", "conv1."),
    (r"^pos_embed$", "positional_embedding"),
    (r"^cls_token$", "class_embedding"),
    (r"^norm_pre\.", "ln_pre."),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"\.norm(\d)\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)


def clip(state: State) -> Any:
    """CLIP, whole: the image tower with its projection, and the text tower."""
    visual = prefixed("visual.", renamed(state, CLIP_VIT))
    visual["visual.class_embedding"] = visual["visual.class_embedding"][0, 0]
    visual["visual.positional_embedding"] = visual["visual.positional_embedding"][0]
    visual["visual.proj"] = visual.pop("visual.head.weight").T.contiguous()
    text = zeros("text_projection", "token_embedding.weight", "ln_final.weight", "positional_embedding")
    text |= zeros("transformer.resblocks.0.attn.in_proj_weight", "transformer.resblocks.0.mlp.c_fc.weight")
    return visual | text | {"logit_scale": torch.zeros(())}


def dinov2_registers(state: State) -> Any:
    """DINOv2 with registers: positions include the class token's, which timm adds to the token itself."""
    positions = torch.cat([torch.full_like(state["cls_token"], 0.25), state["pos_embed"]], dim=1)
    original = renamed(state, [(r"^reg_token$", "register_tokens")])
    return original | {
        "pos_embed": positions,
        "cls_token": state["cls_token"] - 0.25,
        "mask_token": torch.zeros(1, 384),
    }


def dinov3(state: State) -> Any:
    """DINOv3 in Meta's names: one bias of query, key and value, with a mask for that of the key."""
    rules = ((r"\.gamma_(\d)$", r".ls\1.gamma"), (r"^reg_token$", "storage_tokens"))
    names = renamed({name: tensor for name, tensor in state.items() if "_bias" not in name}, rules)
    for name, query in state.items():
        if name.endswith("q_bias"):
            front = name.removesuffix("q_bias")
            names[f"{front}qkv.bias"] = torch.cat([query, torch.zeros_like(query), state[f"{front}v_bias"]])
            names[f"{front}qkv.bias_mask"] = torch.ones(3 * len(query))
    return names | {"rope_embed.periods": torch.zeros(16), "mask_token": torch.zeros(1, 192)}


def sam(state: State) -> Any:
    """Segment Anything: image encoder, prompt encoder and mask decoder."""
    names = prefixed("image_encoder.", renamed(state, [(r"\.mlp\.fc", ".mlp.lin")]))
    return names | zeros("prompt_encoder.point_embeddings.0.weight", "mask_decoder.iou_token.weight")


def depth_anything(state: State) -> Any:
    """Depth Anything v1 and v2: DINOv2 as `pretrained`, and a DPT head."""
    return prefixed("pretrained.", state | {"mask_token": torch.zeros(1, 384)}) | zeros("depth_head.projects.0.weight")


def moge(encoder: str, head: str) -> Callable[[State], Any]:
    """Return how MoGe saves DINOv2: under `encoder`, with a `head`."""

    def write(state: State) -> Any:
        names = prefixed(f"{encoder}.", state | {"mask_token": torch.zeros(1, 384)})
        return {"model_config": {"encoder": "dinov2_vits14"}, "model": names | zeros(f"{head}.projects.0.weight")}

    return write


def midas(state: State) -> Any:
    """DPT of MiDaS: timm's own names as `pretrained.model`, and a decoder."""
    decoder = zeros("scratch.layer1_rn.weight", "pretrained.act_postprocess1.3.weight")
    return prefixed("pretrained.model.", state | zeros("head.weight")) | decoder


MMCV_FFN = ((r"\.mlp\.fc1\.", ".ffn.layers.0.0."), (r"\.mlp\.fc2\.", ".ffn.layers.1."))
MMPRETRAIN_VIT = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.", "layers."),
    (r"\bnorm1\.", "ln1."),
    (r"\bnorm2\.", "ln2."),
    (r"^norm\.", "ln1."),
    *MMCV_FFN,
)
MMSEG_VIT = (
    *MMPRETRAIN_VIT,
    (r"\.attn\.qkv\.", ".attn.attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.attn.out_proj."),
)


def mmpretrain(rules: Rules) -> Callable[[State], Any]:
    """Return how mmpretrain and mmseg save a backbone."""

    def write(state: State) -> Any:
        names = prefixed("backbone.", renamed(state, rules))
        return {"meta": {"mmpretrain_version": "1.0"}, "state_dict": names | zeros("head.layers.head.weight")}

    return write


def mm_swin(state: State) -> Any:
    """Swin in mmseg and mmpretrain: mergings at the end of a stage, over `Unfold`'s order of the four pixels."""
    rules = (
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"^layers\.(\d)\.downsample\.", lambda match: f"stages.{int(match[1]) - 1}.downsample."),
        (r"^layers\.", "stages."),
        (r"\.attn\.", ".attn.w_msa."),
        (r"^norm\.", "norm3."),
        *MMCV_FFN,
    )
    names = renamed(state, rules)
    for name, tensor in names.items():
        if ".downsample." in name:
            pixels = tensor.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
            names[name] = pixels.transpose(-2, -1).flatten(-2).contiguous()
    return {"meta": {"mmseg_version": "1.0"}, "state_dict": prefixed("backbone.", names)}


V1C = tuple((rf"^conv1\.{number}\.", f"stem.{number}.") for number in (0, 1, 3, 4, 6))
V1C = (*V1C, (r"^bn1\.", "stem.7."))

DETECTRON2 = (
    (r"^(conv1)\.", r"stem.\1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)


def detectron2(state: State) -> Any:
    """A detector of detectron2: arrays by name, frozen batch norms without a counter."""
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    names = prefixed("backbone.bottom_up.", renamed(state, DETECTRON2)) | zeros(
        "proposal_generator.rpn_head.conv.weight"
    )
    return {"model": {name: tensor.numpy() for name, tensor in names.items()}, "__author__": "Detectron2 Model Zoo"}


def caffe2(model: nn.Module) -> None:
    """Give a ResNet-50 what Caffe2's has: norms without statistics, the stride in the first convolution of a block."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
            module.running_var.fill_(1 - 1e-5)
        elif re.fullmatch(r"layer[234]\.0", name):
            module.conv1.stride, module.conv2.stride = (2, 2), (1, 1)


def vissl(state: State) -> Any:
    """VISSL: the trunk in three levels of dicts."""
    trunk = prefixed("_feature_blocks.", state)
    return {"classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": zeros("0.clf.0.weight")}}}}


def jax(state: State) -> Any:
    """The ViT of Google in Flax's names: kernels with the inputs first, heads on an axis of their own."""
    heads = 3
    arrays: dict[str, Any] = {"cls": state["cls_token"], "Transformer/posembed_input/pos_embedding": state["pos_embed"]}
    arrays["embedding/kernel"] = state["patch_embed.proj.weight"].permute(2, 3, 1, 0)
    arrays["embedding/bias"] = state["patch_embed.proj.bias"]
    arrays |= {"head/kernel": state["head.weight"].T, "head/bias": state["head.bias"]}
    for kind, name in (("scale", "weight"), ("bias", "bias")):
        arrays[f"Transformer/encoder_norm/{kind}"] = state[f"norm.{name}"]
        for block in range(12):
            for index in (1, 2):
                front = f"Transformer/encoderblock_{block}/LayerNorm_{2 * index - 2}"
                arrays[f"{front}/{kind}"] = state[f"blocks.{block}.norm{index}.{name}"]
    for block in range(12):
        front, old = f"Transformer/encoderblock_{block}", f"blocks.{block}"
        attention = f"{front}/MultiHeadDotProductAttention_1"
        weights = state[f"{old}.attn.qkv.weight"].chunk(3)
        biases = state[f"{old}.attn.qkv.bias"].chunk(3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            arrays[f"{attention}/{part}/kernel"] = weight.T.unflatten(1, (heads, -1))
            arrays[f"{attention}/{part}/bias"] = bias.unflatten(0, (heads, -1))
        arrays[f"{attention}/out/kernel"] = state[f"{old}.attn.proj.weight"].T.unflatten(0, (heads, -1))
        arrays[f"{attention}/out/bias"] = state[f"{old}.attn.proj.bias"]
        for index in (0, 1):
            mlp = f"{front}/MlpBlock_3/Dense_{index}"
            arrays[f"{mlp}/kernel"] = state[f"{old}.mlp.fc{index + 1}.weight"].T
            arrays[f"{mlp}/bias"] = state[f"{old}.mlp.fc{index + 1}.bias"]
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in arrays.items()}


FB_CONVNEXT = (
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"\.blocks\.", "."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
    (r"^head\.norm\.", "norm."),
    (r"^head\.fc\.", "head."),
)


def renamed_model(rules: Rules) -> Callable[[State], Any]:
    """Return how a project saves renamed weights as `model`."""
    return lambda state: {"model": renamed(state, rules)}


def wide_torchvision(folder: Path) -> Case:
    """A DataParallel wrapper around torchvision's ResNet-34 in a training run's checkpoint."""
    model = randomised(torchvision.models.resnet34(num_classes=7))
    contents = {"epoch": 3, "model": prefixed("module.", model.state_dict()), "optimizer": {"state": {}}}
    return Case(save(contents, folder / "run.tar"), model, same("layer1.0", "layer4"), 224)


SMALL, DINOV2 = "vit_small_patch16_224", "vit_small_patch14_dinov2"
CLIP_INPUT: dict[str, Any] = {"mean": CLIP_MEAN, "std": CLIP_STD}
CAFFE2: dict[str, Any] = {"bgr": True, "mean": (103.53 / 255, 116.28 / 255, 123.675 / 255), "std": (1 / 255,) * 3}

ORIGINAL_ROWS = (
    Row("run of torchvision resnet34", "original names", wide_torchvision),
    original("DINO ViT", VIT, LAST_BLOCK, dino, **IMAGENET),
    original("DINO ResNet", "resnet18", same("layer4"), dino, **IMAGENET),
    original("MoCo v2", "resnet18", same("layer4"), moco_v2, **IMAGENET),
    original("MoCo v3", SMALL, LAST_BLOCK, moco_v3, num_heads=12, **IMAGENET),
    original("MAE", VIT, LAST_BLOCK, mae, **IMAGENET),
    original(
        "CLIP ViT",
        "vit_xsmall_patch16_clip_224",
        same("blocks.7"),
        clip,
        num_classes=32,
        **CLIP_INPUT,
    ),
    original("DINOv2", DINOV2, LAST_BLOCK, lambda state: state | {"mask_token": torch.zeros(1, 384)}, cost="slow"),
    original("DINOv2 registers", "vit_small_patch14_reg4_dinov2", LAST_BLOCK, dinov2_registers, cost="slow"),
    original("DINOv3", "vit_tiny_patch16_dinov3_qkvb", LAST_BLOCK, dinov3),
    original("SAM", "samvit_base_patch16", LAST_BLOCK, sam, cost="large", **IMAGENET),
    original("Depth Anything", DINOV2, LAST_BLOCK, depth_anything, cost="large"),
    original("MoGe v1", DINOV2, LAST_BLOCK, moge("backbone", "head"), cost="large"),
    original("MoGe v2", DINOV2, LAST_BLOCK, moge("encoder.backbone", "points_head"), cost="slow"),
    original("MiDaS DPT", "vit_large_patch16_384", same("blocks.23"), midas, cost="large", mean=HALF, std=HALF),
    original("mmpretrain ResNet", "resnet18", same("layer4"), mmpretrain(()), **IMAGENET),
    original("mmseg ResNet V1c", "resnet50c", same("layer4"), mmpretrain(V1C), **IMAGENET),
    original("mmpretrain ResNet V1d", "resnet50d", same("layer4"), mmpretrain(V1C), **IMAGENET),
    original("mmpretrain ViT", VIT, LAST_BLOCK, mmpretrain(MMPRETRAIN_VIT)),
    original("mmseg ViT", VIT, LAST_BLOCK, mmpretrain(MMSEG_VIT)),
    original("mmseg Swin", "swin_tiny_patch4_window7_224", same("layers.0", "norm"), mm_swin),
    original("detectron2 R-50", "resnet50", same("layer4"), detectron2, suffix=".pkl", **IMAGENET),
    original("detectron2 MSRA", "resnet50", same("layer4"), detectron2, suffix=".pkl", adapt=caffe2, **CAFFE2),
    original("VISSL", "resnet50", same("layer4"), vissl, **IMAGENET),
    original("JAX ViT", VIT, LAST_BLOCK, jax, suffix=".npz", num_classes=10),
    original("ConvNeXt of Meta", "convnext_tiny", same("stages.3"), renamed_model(FB_CONVNEXT), num_classes=10),
)
