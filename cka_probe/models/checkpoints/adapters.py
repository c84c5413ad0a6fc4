"""Merge a LoRA adapter of PEFT into the weights that it was trained on.

An adapter has two matrices A (r, in) and B (out, r) for some of the weights W (out, in) of a model. The fine-tuned
model computes with `W + s B A`, where s = alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023); this is what
`merge_and_unload` of PEFT returns. Other tensors of the adapter (`modules_to_save`, biases) replace those of the model.

Reference: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.models.checkpoints.reading import Contents

FRONT = "base_model.model."
LORA = re.compile(r"(?P<module>.+)\.lora_(?P<matrix>[AB])(\.default)?\.weight")

UNKNOWN_OPTIONS = ("use_dora", "lora_bias", "layer_replication", "megatron_config", "eva_config", "corda_config")
"""Options of LoRA that change what is computed, and that are refused unless they are off."""


def is_adapter(contents: Contents) -> bool:
    """Return whether the contents of a file are those of an adapter of PEFT, by the names of its tensors."""
    return any(".lora_" in name for name in contents.tensors)


def merge_adapter(adapter: Contents, base: Contents) -> Contents:
    """Return the contents of a model with an adapter merged into them.

    Args:
        adapter: Contents of `adapter_model.safetensors`, with `adapter_config.json` in the same folder.
        base: Contents of the model that it was trained on.

    Raises:
        CheckpointError: It is no adapter of LoRA, or does not fit the model.
    """
    config = read_adapter_config(adapter.path)
    if config.get("peft_type") != "LORA" or any(config.get(option) for option in UNKNOWN_OPTIONS):
        kind = next((option for option in UNKNOWN_OPTIONS if config.get(option)), config.get("peft_type"))
        raise CheckpointError(
            f"{adapter.path}: expected an adapter of LoRA or rsLoRA, found {kind}; merge it with PEFT's "
            "merge_and_unload() and save the model"
        )
    pairs: dict[str, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for name, tensor in adapter.tensors.items():
        name = name.removeprefix(FRONT)
        if match := LORA.fullmatch(name):
            pairs.setdefault(match["module"], {})[match["matrix"]] = tensor
        elif ".lora_" in name:
            raise CheckpointError(
                f"{adapter.path}: expected matrices lora_A and lora_B, found {name!r}; merge it with PEFT's "
                "merge_and_unload() and save the model"
            )
        else:
            others[name] = tensor
    front = _front([f"{module}.weight" for module in pairs], base.tensors)
    tensors = dict(base.tensors)
    for name, tensor in others.items():
        tensors[name if front is None else _in_base(name, front)] = tensor
    for module, matrices in pairs.items():
        target = "" if front is None else _in_base(f"{module}.weight", front)
        if target not in tensors or matrices.keys() != {"A", "B"}:
            raise CheckpointError(
                f"{adapter.path}: expected both matrices of {module!r} and its weight in {base.path}, found another "
                "model; give the one that the adapter was trained on"
            )
        update = _update(module, matrices["A"].float(), matrices["B"].float(), config)
        weight = tensors[target]
        if update.shape != weight.shape:
            raise CheckpointError(
                f"{adapter.path}: expected an update of {target!r} {tuple(weight.shape)} of {base.path}, found "
                f"{tuple(update.shape)}; give the model that the adapter was trained on"
            )
        tensors[target] = weight.float() + update
    return replace(base, tensors=tensors)


def adapter_note(adapter: Contents, base: Contents) -> str:
    """Return the note on a merged adapter."""
    number = sum(".lora_A" in name for name in adapter.tensors)
    return f"the LoRA adapter {adapter.path} is merged into {number} weights of {base.path}"


def needs_base(adapter: Contents) -> CheckpointError:
    """Return the error for an adapter without the model that it was trained on."""
    name = read_adapter_config(adapter.path).get("base_model_name_or_path") or "not named in adapter_config.json"
    return CheckpointError(
        f"{adapter.path}: expected a model, found a LoRA adapter; give the file of the model that it was trained on "
        f"({name}) with --base"
    )


def read_adapter_config(path: Path) -> dict[str, Any]:
    """Return the `adapter_config.json` next to an adapter.

    Raises:
        CheckpointError: There is none.
    """
    file = path.with_name("adapter_config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected adapter_config.json next to the adapter, found none; copy it too")
    return config


def _front(names: list[str], tensors: dict[str, Tensor]) -> tuple[str, str] | None:
    """Return what to remove from the front of an adapter's names, and to add, to get those of its model.

    The model may have been saved with or without its head, so that either has names that begin with `vit.`, say. One
    change must give the names of all weights; None if none does.
    """
    first = names[0]
    parts = first.split(".")
    fronts = [("".join(f"{part}." for part in parts[:end]), "") for end in range(len(parts) - 1)]
    fronts += [("", name.removesuffix(first)) for name in tensors if name.endswith(f".{first}")]
    return next((front for front in fronts if all(_in_base(name, front) in tensors for name in names)), None)


def _in_base(name: str, front: tuple[str, str]) -> str:
    """Return the name in the model of an adapter's tensor; arguments as `_front` returns."""
    return front[1] + name.removeprefix(front[0])


def _update(module: str, a: Tensor, b: Tensor, config: dict[str, Any]) -> Tensor:
    """Return s B A in the shape of the weight, a matrix or the kernel of a convolution."""
    rank, alpha = a.shape[0], config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            alpha = value
            break
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    if a.ndim == 4:
        product = torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a)
    else:
        product = (b @ a).T if config.get("fan_in_fan_out") else b @ a
    return product.mul(scale)
