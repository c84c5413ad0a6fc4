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


def vggt(state: State) -> Any:
    """VGGT: DINOv2 with registers as its patch embedding, and blocks between views with a camera token."""
    rest = zeros("aggregator.camera_token", "aggregator.frame_blocks.0.attn.qkv.weight", "camera_head.norm.weight")
    return prefixed("aggregator.patch_embed.", dinov2_registers(state)) | rest


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


def depth_anything_3(state: State) -> Any:
    """Depth Anything 3: DINOv2 whose blocks from the fifth of 12 on have norms of queries, and a camera token."""
    norms = {
        f"blocks.{block}.attn.{part}_norm.{kind}": torch.ones(64)
        for block in range(4, 12)
        for part in "qk"
        for kind in ("weight", "bias")
    }
    encoder = state | norms | {"camera_token": torch.zeros(1, 2, 384)}
    return prefixed("model.backbone.pretrained.", encoder) | zeros("model.head.projects.0.weight")


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


def without_statistics(model: nn.Module) -> None:
    """Give a ResNet the norms of Caffe2, which have no statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
            module.running_var.fill_(1 - 1e-5)


def caffe2(model: nn.Module) -> None:
    """Give a ResNet-50 what Caffe2's has: norms without statistics, the stride in the first convolution of a block."""
    without_statistics(model)
    for name, module in model.named_modules():
        if re.fullmatch(r"layer[234]\.0", name):
            module.conv1.stride, module.conv2.stride = (2, 2), (1, 1)


CAFFE2_NAMES = (
    (r"^conv1\.weight$", "conv1_w"),
    (r"^bn1\.weight$", "res_conv1_bn_s"),
    (r"^bn1\.bias$", "res_conv1_bn_b"),
    (r"^layer(\d)\.(\d+)\.", lambda match: f"res{int(match[1]) + 1}_{match[2]}_"),
    (r"_conv(\d)\.weight$", lambda match: f"_branch2{'abc'[int(match[1]) - 1]}_w"),
    (r"_bn(\d)\.weight$", lambda match: f"_branch2{'abc'[int(match[1]) - 1]}_bn_s"),
    (r"_bn(\d)\.bias$", lambda match: f"_branch2{'abc'[int(match[1]) - 1]}_bn_b"),
    (r"_downsample\.0\.weight$", "_branch1_w"),
    (r"_downsample\.1\.weight$", "_branch1_bn_s"),
    (r"_downsample\.1\.bias$", "_branch1_bn_b"),
)


def detectron(state: State) -> Any:
    """A ResNet of Caffe2 as Detectron and detectron2's model zoo have it: scales and shifts in place of batch norms."""
    state = {name: tensor for name, tensor in state.items() if "running_" not in name and "num_batches" not in name}
    names = renamed(state, CAFFE2_NAMES) | {"conv1_b": torch.zeros(64)} | zeros("fc1000_w", "conv1_w_momentum")
    return {"model": {name: tensor.numpy() for name, tensor in names.items()}, "__author__": "MSRA"}


def vissl(state: State) -> Any:
    """VISSL: the trunk in three levels of dicts."""
    trunk = prefixed("_feature_blocks.", state)
    return {"classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": zeros("0.clf.0.weight")}}}}


def jax(state: State) -> Any:
    """The ViT of Google in Flax's names: kernels with the inputs first, heads on an axis of their own."""
    heads = state["pos_embed"].shape[-1] // 64
    arrays: dict[str, Any] = {"Transformer/posembed_input/pos_embedding": state["pos_embed"]}
    arrays |= {"cls": state["cls_token"]} if "cls_token" in state else {}
    arrays["embedding/kernel"] = state["patch_embed.proj.weight"].permute(2, 3, 1, 0)
    arrays["embedding/bias"] = state["patch_embed.proj.bias"]
    if "head.weight" in state:
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


def big_vision(state: State) -> Any:
    """A ViT of big_vision whose blocks run as one scan: a leading axis of depth, and other numbers of modules."""
    arrays = jax(state)
    stacked = {name: array for name, array in arrays.items() if "encoderblock_" not in name}
    for name in arrays:
        if "encoderblock_0/" in name:
            front, end = name.split("encoderblock_0/")
            end = end.replace("LayerNorm_2", "LayerNorm_1").replace("MlpBlock_3", "MlpBlock_0")
            end = end.replace("Attention_1", "Attention_0")
            blocks = [arrays[name.replace("encoderblock_0/", f"encoderblock_{block}/")] for block in range(12)]
            stacked[f"{front}encoderblock/{end}"] = np.stack(blocks)
    stacked["pos_embedding"] = stacked.pop("Transformer/posembed_input/pos_embedding")
    stacked |= attention_pool(state) if "attn_pool.latent" in state else {}
    return {f"params/{name}": array for name, array in stacked.items()}


def attention_pool(state: State) -> dict[str, Any]:
    """The attention pooling of SigLIP in big_vision's names."""
    pool = {name.removeprefix("attn_pool."): tensor for name, tensor in state.items() if "attn_pool." in name}
    heads = state["pos_embed"].shape[-1] // 64
    arrays = {"probe": pool["latent"], "LayerNorm_0/scale": pool["norm.weight"], "LayerNorm_0/bias": pool["norm.bias"]}
    attention = "MultiHeadDotProductAttention_0"
    weights = (pool["q.weight"], *pool["kv.weight"].chunk(2))
    biases = (pool["q.bias"], *pool["kv.bias"].chunk(2))
    for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        arrays[f"{attention}/{part}/kernel"] = weight.T.unflatten(1, (heads, -1))
        arrays[f"{attention}/{part}/bias"] = bias.unflatten(0, (heads, -1))
    arrays[f"{attention}/out/kernel"] = pool["proj.weight"].T.unflatten(0, (heads, -1))
    arrays[f"{attention}/out/bias"] = pool["proj.bias"]
    for index in (0, 1):
        arrays[f"MlpBlock_0/Dense_{index}/kernel"] = pool[f"mlp.fc{index + 1}.weight"].T
        arrays[f"MlpBlock_0/Dense_{index}/bias"] = pool[f"mlp.fc{index + 1}.bias"]
    return {f"MAPHead_0/{name}": np.ascontiguousarray(tensor.numpy()) for name, tensor in arrays.items()}


def midas_v21(state: State) -> Any:
    """MiDaS v2.1: the stem of its ResNeXt is in `layer1`."""
    rules = ((r"^layer1\.", "layer1.4."), (r"^conv1\.", "layer1.0."), (r"^bn1\.", "layer1.1."))
    return prefixed("pretrained.", renamed(state, rules)) | zeros("scratch.layer1_rn.weight")


FB_CONVNEXT = (
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"\.blocks\.", "."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
    (r"^head\.norm\.", "norm."),
    (r"^head\.fc\.", "head."),
)


PVT_V2 = (
    (r"^patch_embed\.", "patch_embed1."),
    (r"^stages\.(\d)\.downsample\.", lambda match: f"patch_embed{int(match[1]) + 1}."),
    (r"^stages\.(\d)\.blocks\.", lambda match: f"block{int(match[1]) + 1}."),
    (r"^stages\.(\d)\.norm\.", lambda match: f"norm{int(match[1]) + 1}."),
    (r"\.dwconv\.", ".dwconv.dwconv."),
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
    original("VGGT", "vit_small_patch14_reg4_dinov2", LAST_BLOCK, vggt, cost="slow"),
    original("DINOv3", "vit_tiny_patch16_dinov3_qkvb", LAST_BLOCK, dinov3),
    original("SAM", "samvit_base_patch16", LAST_BLOCK, sam, cost="large", **IMAGENET),
    original("Depth Anything", DINOV2, LAST_BLOCK, depth_anything, cost="large"),
    original("Depth Anything 3", DINOV2, same("blocks.0", "blocks.3"), depth_anything_3, cost="slow"),
    original("MoGe v1", DINOV2, LAST_BLOCK, moge("backbone", "head"), cost="large"),
    original("MoGe v2", DINOV2, LAST_BLOCK, moge("encoder.backbone", "points_head"), cost="slow"),
    original("MiDaS DPT", "vit_large_patch16_384", same("blocks.23"), midas, cost="large", mean=HALF, std=HALF),
    original("detectron2 R-50", "resnet50", same("layer4"), detectron2, suffix=".pkl", **IMAGENET),
    original("detectron2 MSRA", "resnet50", same("layer4"), detectron2, suffix=".pkl", adapt=caffe2, **CAFFE2),
    original("Detectron R-50", "resnet50", same("layer4"), detectron, suffix=".pkl", adapt=caffe2, **CAFFE2),
    original(
        "Detectron X-50",
        "resnext50_32x4d",
        same("layer1.2", "layer4"),
        detectron,
        suffix=".pkl",
        adapt=without_statistics,
        cost="large",
        bgr=True,
        mean=CAFFE2["mean"],
        std=(57.375 / 255, 57.12 / 255, 58.395 / 255),
    ),
    original("VISSL", "resnet50", same("layer4"), vissl, **IMAGENET),
    original("JAX ViT", VIT, LAST_BLOCK, jax, suffix=".npz", num_classes=10),
    original("big_vision ViT", VIT, LAST_BLOCK, big_vision, suffix=".npz", num_classes=10),
    original(
        "big_vision SigLIP",
        "vit_base_patch16_siglip_224",
        same("blocks.11", "attn_pool"),
        big_vision,
        suffix=".npz",
        cost="large",
    ),
    original("MiDaS v2.1", "resnext50_32x4d", same("layer1.2", "layer4"), midas_v21, cost="large", **IMAGENET),
    original("PVT v2", "pvt_v2_b0", same("stages.0", "stages.3"), renamed_model(PVT_V2), num_classes=10),
    original("ConvNeXt of Meta", "convnext_tiny", same("stages.3"), renamed_model(FB_CONVNEXT), num_classes=10),
)
