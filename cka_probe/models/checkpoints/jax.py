"""Rename the vision transformers of JAX: of Google's vision_transformer and big_vision, written with Flax."""

import re

import torch
from torch import Tensor

from cka_probe.models.checkpoints.naming import Tensors, under


def jax_vit(tensors: Tensors) -> Tensors:
    """Rename a ViT of Flax and put its kernels' outputs first."""
    tensors = _unstacked(tensors)
    fronts = sorted({name.rpartition("encoderblock_")[0] for name in tensors if "encoderblock_" in name})
    blocks = {int(match[1]) for name in tensors if (match := re.search(r"encoderblock_(\d+)\.", name))}
    renamed: Tensors = {"cls_token": tensors["cls"]} if "cls" in tensors else {}
    positions = tensors.get("Transformer.posembed_input.pos_embedding", tensors.get("pos_embedding"))
    if positions is not None:
        renamed["pos_embed"] = positions
    renamed["patch_embed.proj.weight"] = tensors["embedding.kernel"].permute(3, 2, 0, 1)
    renamed["patch_embed.proj.bias"] = tensors["embedding.bias"]
    renamed |= _layer("norm", tensors, f"{fronts[0]}encoder_norm")
    for block in blocks:
        renamed |= _block(f"blocks.{block}", under(f"{fronts[0]}encoderblock_{block}.", tensors))
    if "MAPHead_0.probe" in tensors:
        renamed |= _attention_pool(under("MAPHead_0.", tensors))
    if "head.kernel" in tensors:
        renamed |= _layer("head", tensors, "head")
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def _unstacked(tensors: Tensors) -> Tensors:
    """Return tensors with those of all blocks, (depth, …) if they run as `nn.scan`, split into one per block."""
    split: Tensors = {}
    for name, tensor in tensors.items():
        if "encoderblock." not in name:
            split[name] = tensor
            continue
        for block, part in enumerate(tensor.unbind()):
            split[name.replace("encoderblock.", f"encoderblock_{block}.")] = part
    return split


def _attention_pool(tensors: Tensors) -> Tensors:
    """Return the attention pooling of SigLIP."""
    weights, biases, out = _attention("MultiHeadDotProductAttention_0", tensors)
    renamed = {
        "attn_pool.latent": tensors["probe"],
        "attn_pool.q.weight": weights[0],
        "attn_pool.q.bias": biases[0],
        "attn_pool.kv.weight": torch.cat(weights[1:]),
        "attn_pool.kv.bias": torch.cat(biases[1:]),
        "attn_pool.proj.weight": out,
        "attn_pool.proj.bias": tensors["MultiHeadDotProductAttention_0.out.bias"],
    }
    renamed |= _layer("attn_pool.norm", tensors, "LayerNorm_0")
    for index in (1, 2):
        renamed |= _layer(f"attn_pool.mlp.fc{index}", tensors, f"MlpBlock_0.Dense_{index - 1}")
    return renamed


def _attention(front: str, tensors: Tensors) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return weights (C, C) and biases (C,) of query, key and value, and the weight (C, C) of the projection."""
    parts = ("query", "key", "value")
    weights = [tensors[f"{front}.{part}.kernel"].flatten(1).T for part in parts]
    biases = [tensors[f"{front}.{part}.bias"].flatten() for part in parts]
    return weights, biases, tensors[f"{front}.out.kernel"].flatten(0, 1).T


def _block(name: str, tensors: Tensors) -> Tensors:
    """Return a block of a ViT; its modules are numbered differently in vision_transformer and big_vision."""
    groups = sorted({key.split(".")[0] for key in tensors})
    norms = [group for group in groups if group.startswith("LayerNorm")]
    attention, mlp = (next(g for g in groups if g.startswith(kind)) for kind in ("MultiHead", "MlpBlock"))
    weights, biases, out = _attention(attention, tensors)
    renamed = {
        f"{name}.attn.qkv.weight": torch.cat(weights),
        f"{name}.attn.qkv.bias": torch.cat(biases),
        f"{name}.attn.proj.weight": out,
        f"{name}.attn.proj.bias": tensors[f"{attention}.out.bias"],
    }
    for index, norm in enumerate(norms, start=1):
        renamed |= _layer(f"{name}.norm{index}", tensors, norm)
    for index in (1, 2):
        renamed |= _layer(f"{name}.mlp.fc{index}", tensors, f"{mlp}.Dense_{index - 1}")
    return renamed


def _layer(name: str, tensors: Tensors, front: str) -> Tensors:
    """Return weight and bias of a norm or a linear layer of Flax."""
    kernel = tensors.get(f"{front}.kernel")
    weight = tensors[f"{front}.scale"] if kernel is None else kernel.T
    return {f"{name}.weight": weight, f"{name}.bias": tensors[f"{front}.bias"]}
