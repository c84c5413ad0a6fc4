"""Model files of OpenMMLab (mmpretrain, mmseg) and of code that builds on it, see `original_files`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
import transformers
from helpers.model_files import Case, Row, randomised, same, save
from helpers.original_files import (
    FB_CONVNEXT,
    IMAGENET,
    LAST_BLOCK,
    VIT,
    Rules,
    State,
    original,
    prefixed,
    renamed,
    zeros,
)
from torch import nn

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


def mix_transformer(label: str, write: Callable[[State], Any], precise: str) -> Row:
    """Return the row of a SegFormer B0 of transformers whose layer norms named like `precise` have eps 1e-6."""

    def make(folder: Path) -> Case:
        model = randomised(transformers.SegformerModel(transformers.SegformerConfig()))
        for name, module in model.named_modules():
            if isinstance(module, nn.LayerNorm) and re.search(precise, name):
                module.eps = 1e-6
        path = save(write(dict(model.state_dict())), folder / "segformer.pth")
        return Case(path, model, same("stages.0.blocks.1", "stages.3"), 224)

    return Row(label, "original names", make)


def joined(state: State, old: str, new: str, words: str) -> State:
    """Return the tensors with those of query, key and value (`words`) of each attention in one."""
    names: State = {}
    for name, tensor in state.items():
        if f".attention.{words[0]}_proj." in name:
            parts = [state[name.replace(f"{words[0]}_proj", f"{word}_proj")] for word in words]
            names[name.replace(f".attention.{words[0]}_proj{old}", new)] = torch.cat(parts)
        elif not any(f".attention.{word}_proj." in name for word in words):
            names[name] = tensor
    return names


def nvlabs_mit(state: State) -> Any:
    """SegFormer of NVlabs: four numbered stages, key and value in one."""
    rules = (
        (r"^stages\.(\d)\.patch_embeddings\.", lambda match: f"patch_embed{int(match[1]) + 1}."),
        (r"^stages\.(\d)\.blocks\.", lambda match: f"block{int(match[1]) + 1}."),
        (r"^stages\.(\d)\.layer_norm\.", lambda match: f"norm{int(match[1]) + 1}."),
        (r"\.layer_norm\.", ".norm."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.sequence_reduction\.norm\.", ".attn.norm."),
        (r"\.attention\.sequence_reduction\.sequence_reduction\.", ".attn.sr."),
        (r"\.attention\.o_proj\.", ".attn.proj."),
        (r"\.attention\.q_proj\.", ".attn.q."),
    )
    names = renamed(joined(state, ".", ".attn.kv.", "kv"), rules)
    return {"state_dict": prefixed("backbone.", names) | zeros("decode_head.linear_pred.weight")}


def mmseg_mit(state: State) -> Any:
    """SegFormer of mmseg: a stage is a list of embedding, blocks and norm; linear layers of an MLP are convolutions."""
    rules = (
        (r"^stages\.(\d)\.patch_embeddings\.proj\.", r"layers.\1.0.projection."),
        (r"^stages\.(\d)\.patch_embeddings\.layer_norm\.", r"layers.\1.0.norm."),
        (r"^stages\.(\d)\.blocks\.", r"layers.\1.1."),
        (r"^stages\.(\d)\.layer_norm\.", r"layers.\1.2."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.sequence_reduction\.layer_norm\.", ".attn.norm."),
        (r"\.attention\.sequence_reduction\.sequence_reduction\.", ".attn.sr."),
        (r"\.attention\.o_proj\.", ".attn.attn.out_proj."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0."),
        (r"\.mlp\.dwconv\.dwconv\.", ".ffn.layers.1."),
        (r"\.mlp\.fc2\.", ".ffn.layers.4."),
    )
    names = renamed(joined(state, ".", ".attn.attn.in_proj_", "qkv"), rules)
    for name in names:
        if re.search(r"ffn\.layers\.[04]\.weight", name):
            names[name] = names[name][..., None, None]
    return {"meta": {"mmseg_version": "1.0"}, "state_dict": prefixed("backbone.", names)}


SETTINGS = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False),
    backbone=dict(
        type='ResNet',
        depth=50,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=norm_cfg))
test_cfg = dict(fun=print('never run'))
"""


def dilated_resnet(folder: Path) -> Case:
    """A ResNet-50 of mmseg with output stride 8 that takes BGR images, as its settings say; torchvision has it too."""
    network = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True])
    model = randomised(network)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
    tensors = prefixed("backbone.", state) | zeros("decode_head.conv_seg.weight")
    path = save({"meta": {"cfg": SETTINGS}, "state_dict": tensors}, folder / "iter_80000.pth")
    mean, std = (103.53 / 255, 116.28 / 255, 123.675 / 255), (57.375 / 255, 57.12 / 255, 58.395 / 255)
    return Case(path, model, same("layer1.0", "layer4"), 224, mean, std, bgr=True)


V1C = tuple((rf"^conv1\.{number}\.", f"stem.{number}.") for number in (0, 1, 3, 4, 6))
V1C = (*V1C, (r"^bn1\.", "stem.7."))


CONVNEXT = (
    *FB_CONVNEXT,
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv([12])\.", r".pointwise_conv\1."),
    (r"^norm\.", "norm3."),
)

OPENMMLAB_ROWS = (
    Row("mmseg ResNet with its settings", "original names", dilated_resnet, "slow"),
    original("mmpretrain ResNet", "resnet18", same("layer4"), mmpretrain(()), **IMAGENET),
    original("mmseg ResNet V1c", "resnet50c", same("layer4"), mmpretrain(V1C), **IMAGENET),
    original("mmpretrain ResNet V1d", "resnet50d", same("layer4"), mmpretrain(V1C), **IMAGENET),
    original("mmpretrain ViT", VIT, LAST_BLOCK, mmpretrain(MMPRETRAIN_VIT)),
    original("mmseg ViT", VIT, LAST_BLOCK, mmpretrain(MMSEG_VIT)),
    original("mmpretrain ConvNeXt", "convnext_tiny", same("stages.3"), mmpretrain(CONVNEXT)),
    original("mmseg Swin", "swin_tiny_patch4_window7_224", same("layers.0", "norm"), mm_swin),
    mix_transformer("SegFormer of NVlabs", nvlabs_mit, r"blocks\.\d\.layernorm|^stages\.\d\.layer_norm"),
    mix_transformer("mmseg SegFormer", mmseg_mit, ""),
)
