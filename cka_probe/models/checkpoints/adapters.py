"""Merge a LoRA adapter of PEFT into the weights that it was trained on.

An adapter has two matrices A (r, in) and B (out, r) for some of the weights W (out, in) of a model. The fine-tuned
model computes with `V = W + s B A`, where s = alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023). With DoRA
(Liu et al. 2024) each row of V is then scaled to a learned norm. This is what `merge_and_unload` of PEFT returns. Other
tensors of the adapter (`modules_to_save`, biases) replace those of the model.

Reference: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.files import read_json
from cka_probe.models.checkpoints.huggingface import file_names
from cka_probe.models.checkpoints.reading import Contents

FRONT = "base_model.model."
LORA = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.default)?(?P<kind>\.weight|\.bias|)"
)
"""Names such as `q.lora_A.weight`, `q.lora_B.bias` and `q.lora_magnitude_vector`."""

INSERTED = re.compile(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)")
"""What PEFT inserts into the names of a model's tensors."""

OPTIONS = {
    *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "eva_config"),
    *("exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern"),
    *("layers_to_transform", "lora_alpha", "lora_bias", "lora_dropout", "megatron_core", "modules_to_save"),
    *("peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config"),
    *("target_modules", "target_parameters", "task_type", "use_dora", "use_rslora"),
}
"""Options that are used here or do not change what is computed. All others must be off."""

INITS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` with which W stays as it is: PiSSA and OLoRA, for example, subtract from it."""

MERGE = "merge it with PEFT's merge_and_unload() and save the model"


def is_adapter(contents: Contents) -> bool:
    """Return whether the contents of a file are those of an adapter of PEFT, of LoRA or of another method."""
    if any(".lora_" in name for name in contents.tensors):
        return True
    return contents.path.stem == "adapter_model" and contents.path.with_name("adapter_config.json").exists()


def merge_adapter(adapter: Contents, base: Contents) -> tuple[Contents, tuple[str, ...]]:
    """Return the contents of a model with an adapter merged into them, and notes on it.

    Args:
        adapter: Contents of `adapter_model.safetensors`, with `adapter_config.json` in the same folder.
        base: Contents of the model that it was trained on.

    Raises:
        CheckpointError: It is no adapter of LoRA, or does not fit the model.
    """
    config = check_method(adapter)
    updates, others = _parts(adapter)
    names = _names_in_base(base, updates)
    tensors = dict(base.tensors)
    for module, parts in updates.items():
        target = names.get(f"{module}.weight") or names.get(f"{module}.in_proj_weight", "")
        bias = f"{target.removesuffix('weight')}bias"
        targets = {target} | ({bias} if "lora_B.bias" in parts else set())
        if not targets <= tensors.keys() or not {"lora_A.weight", "lora_B.weight"} <= parts.keys():
            raise CheckpointError(
                f"{adapter.path}: expected both matrices of {module!r} and its weight in {base.path}, found another "
                "model; give the one that the adapter was trained on"
            )
        weight = _updated_weight(tensors[target].float(), parts, _scale(module, parts, config), config)
        if weight is None:
            raise CheckpointError(
                f"{adapter.path}: expected an update of {target!r} {tuple(tensors[target].shape)} of {base.path}, "
                f"found one of another shape; give the model that the adapter was trained on, or {MERGE}"
            )
        tensors[target] = weight
        if bias in targets:
            tensors[bias] = tensors[bias].float() + _scale(module, parts, config) * parts["lora_B.bias"].float()
    unused = [name for name in others if name not in names and "model_type" in base.config]
    others = {names.get(name, name): tensor for name, tensor in others.items() if name not in unused}
    notes = [f"the LoRA adapter {adapter.path} is merged into {len(updates)} weights of {base.path}"]
    if unused:
        notes.append(f"not used, for {base.path} has no such tensors: {', '.join(unused)}")
    return replace(base, tensors=tensors | others, config=_with_classes(base.config, others)), tuple(notes)


def check_method(adapter: Contents) -> dict[str, Any]:
    """Return the `adapter_config.json` of an adapter that can be merged.

    Raises:
        CheckpointError: There is none, or it is of another method than LoRA, rsLoRA and DoRA.
    """
    config = read_adapter_config(adapter.path)
    method = str(config.get("peft_type"))
    if method == "LORA":
        init = config.get("init_lora_weights")
        method = next((option for option in sorted(config.keys() - OPTIONS) if config[option]), "")
        method = method or ("" if init in INITS else f"init_lora_weights={init}")
    if method:
        raise CheckpointError(f"{adapter.path}: expected an adapter of LoRA, rsLoRA or DoRA, found {method}; {MERGE}")
    return config


def needs_base(adapter: Contents) -> CheckpointError:
    """Return the error for an adapter without the model that it was trained on."""
    name = check_method(adapter).get("base_model_name_or_path") or "not named in adapter_config.json"
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
        config = read_json(file)
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected adapter_config.json next to the adapter, found none; copy it too")
    return config


def _parts(adapter: Contents) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the tensors of LoRA by module and part (`lora_A.weight`), and those that replace the model's by name."""
    updates: dict[str, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for name, tensor in adapter.tensors.items():
        name = INSERTED.sub("", name.removeprefix(FRONT))
        if match := LORA.fullmatch(name):
            kind = "" if match["part"] == "lora_magnitude_vector" else match["kind"]
            updates.setdefault(match["module"], {})[match["part"] + kind] = tensor
        elif ".lora_" in name:
            raise CheckpointError(f"{adapter.path}: expected matrices lora_A and lora_B, found {name!r}; {MERGE}")
        elif ".original_module." not in name:
            others[name] = tensor
    if not updates:
        raise CheckpointError(f"{adapter.path}: expected matrices lora_A and lora_B, found none; {MERGE}")
    return updates, others


def _names_in_base(base: Contents, modules: Collection[str]) -> dict[str, str]:
    """Return the names of a model's tensors in its file, by the names that its adapter has for them.

    The model may have been saved with or without its head, so that either has names that begin with `vit.`, say: one
    change at the front must give the names of all weights. A model of transformers may have other names in memory,
    where the adapter was trained, than in its file.

    Returns:
        The names, or {} if a module of the adapter is not in the model.
    """
    names = _with_front({name: name for name in base.tensors}, modules)
    return names or (_with_front(file_names(base), modules) if "model_type" in base.config else {})


def _with_front(names: Mapping[str, str], modules: Collection[str]) -> dict[str, str]:
    """Return names with their front changed so that the weights of all modules are among them; {} if none fits."""
    weights = {name.removesuffix(".weight").removesuffix(".in_proj_weight") for name in names}
    first = next(iter(modules))
    parts = first.split(".")
    fronts = [("".join(f"{part}." for part in parts[:end]), "") for end in range(len(parts))]
    fronts += [("", weight.removesuffix(first)) for weight in weights if weight.endswith(f".{first}")]
    for old, new in fronts:
        if all(new + module.removeprefix(old) in weights for module in modules):
            return dict(names) | {
                old + name.removeprefix(new): file for name, file in names.items() if name.startswith(new)
            }
    return {}


def _with_classes(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the `config.json` of a model with as many classes as the classifier of an adapter has."""
    if "model_type" not in config or "classifier.weight" not in tensors:
        return config
    rest = {name: value for name, value in config.items() if name not in ("id2label", "label2id")}
    return rest | {"num_labels": len(tensors["classifier.weight"])}


def _scale(module: str, parts: Mapping[str, Tensor], config: Mapping[str, Any]) -> float:
    """Return s of a module."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    alphas = (alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", module))
    alpha: float = next(alphas, config.get("lora_alpha", 8))
    rank = len(parts["lora_A.weight"])
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _updated_weight(
    weight: Tensor, parts: Mapping[str, Tensor], scale: float, config: Mapping[str, Any]
) -> Tensor | None:
    """Return a weight with its update, a matrix or the kernel of a convolution; `None` if the shapes differ.

    Args:
        weight: float32, (out, in) or (out, in, h, w); (in, out) with `fan_in_fan_out`, as of transformers' `Conv1D`.
        parts: The tensors of the adapter: `lora_A.weight` (r, in) or (r, in, h, w), `lora_B.weight` (out, r) or
            (out, r, 1, 1), and `lora_magnitude_vector` (out,) or (1, out, 1, 1) of DoRA.
        scale: s.
        config: The `adapter_config.json`.
    """
    a, b = parts["lora_A.weight"].float(), parts["lora_B.weight"].float()
    is_transposed = bool(config.get("fan_in_fan_out"))
    weight = weight.T if is_transposed else weight
    if b.shape[1] != len(a) or (len(b), *a.shape[1:]) != weight.shape:
        return None
    weight = weight + scale * torch.einsum("or,r...->o...", b.flatten(1), a)
    if (magnitude := parts.get("lora_magnitude_vector")) is not None:
        factors = magnitude.float().flatten() / weight.flatten(1).norm(dim=1)
        weight = weight * factors.reshape(-1, *[1] * (weight.ndim - 1))
    return weight.T if is_transposed else weight
