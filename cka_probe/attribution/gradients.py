"""Gradients of scores with respect to activations, as a function: hooks are added, the model runs, hooks are removed.

For each layer with activation A and each score S of an image, `gradients` computes A and dS/dA. A is a copy, and the
network continues with a copy of A, so an in-place operation after the layer (the ReLU after a batch norm, the sum of a
residual block) does not affect it, and A and dS/dA belong to the same point. The first layer's copy is a new leaf:
nothing before it is differentiated, so a frozen encoder does not matter and its graph is freed.

Gradients come from `torch.autograd.grad` with respect to activations: no `grad` of a parameter is written, no
`requires_grad` is changed, and every module keeps its mode. It works inside `torch.no_grad()` and
`torch.inference_mode()`, except with weights that were themselves created in inference mode.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cka_probe.errors import LayerError
from cka_probe.models.recording import activation_of, evaluating

T = TypeVar("T")


def gradients(
    model: nn.Module,
    inputs: Any,
    modules: Sequence[str],
    scores: Callable[[Any], Sequence[Tensor]],
    keep: Callable[[str, Tensor, Tensor], T],
    *,
    run: Callable[[Any], Any] | None = None,
) -> tuple[Tensor, list[list[T]]]:
    """Run a model once, and return for each score the values of `keep` for each layer's activation and gradient.

    In evaluation mode the images of a batch do not affect each other, so the gradient of the sum of a score over images
    is, image by image, the gradient of the image's own score.

    Args:
        model: The model that `modules` are in.
        inputs: The input of the model, (n, ...) if a tensor; its first axis is the examples.
        modules: Dotted paths, each once.
        scores: Maps the output of the model to scores, (n,) each.
        keep: Called as `keep(module, activation, gradient)` for each score and layer; it must not change the tensors,
            which have the shape of the activation.
        run: Called with `inputs` in place of `model`.

    Returns:
        The m scores, (m, n), and for each of them a list of one value per entry of `modules`, in that order.

    Raises:
        LayerError: A layer never ran, ran twice, did not put out one activation per example, or does not affect the
            score.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_inference():
            raise LayerError(
                f"weight {name!r} was made inside torch.inference_mode(), so nothing can be differentiated through it; "
                "make or load the model outside"
            )
    activations: dict[str, Tensor] = {}
    # in evaluation mode in the backward pass too, which may run parts of the model again
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        if isinstance(inputs, Tensor) and inputs.is_inference():
            inputs = inputs.clone()  # a tensor of inference mode cannot be saved for the backward pass
        with ExitStack() as hooks:
            for name in modules:
                hook = _hook(name, len(inputs), activations)
                hooks.callback(model.get_submodule(name).register_forward_hook(hook).remove)
            output = (run or model)(inputs)
        never = [name for name in modules if name not in activations]
        if never:
            raise LayerError(f"layer {never[0]!r} never ran in the forward pass; name a layer that the model uses")
        values = scores(output)
        rows = []
        for index, row in enumerate(values):
            _check_score(row, len(inputs))
            tensors = [activations[name] for name in modules]
            row_gradients: Sequence[Tensor | None] = [None] * len(tensors)
            if row.requires_grad:
                last = index == len(values) - 1
                row_gradients = torch.autograd.grad(row.sum(), tensors, retain_graph=not last, allow_unused=True)
            items = []
            for name, tensor, gradient in zip(modules, tensors, row_gradients, strict=True):
                if gradient is None:
                    raise LayerError(
                        f"layer {name!r} does not affect the score: no gradient reaches it (its output is not used, or "
                        "what follows runs without gradients); name a layer between the image and the prediction"
                    )
                items.append(keep(name, tensor.detach(), gradient))
            rows.append(items)
    return torch.stack([row.detach() for row in values]), rows


def _hook(name: str, n: int, activations: dict[str, Tensor]) -> Callable[..., Any]:
    """Return the hook that copies a layer's activation and lets the network continue with a copy of that copy."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if name in activations:
            raise LayerError(f"layer {name!r} runs more than once in a forward pass; name a layer that runs once")
        activation = activation_of(name, output, n)
        if activations and activation.requires_grad:  # it may depend on an earlier one of the layers
            activations[name] = activation.clone()
        else:
            activations[name] = activation.detach().clone().requires_grad_()
        return _with_activation(output, activation, activations[name].clone())

    return hook


def _with_activation(output: Any, before: Tensor, after: Tensor) -> Any:
    """Return a module's output with one tensor, `before`, replaced by another."""
    if output is before:
        return after
    if isinstance(output, Mapping):  # outputs of transformers, whose attributes follow their items
        changed: Any = copy(output)
        for name, part in output.items():
            changed[name] = _with_activation(part, before, after)
        return changed
    if is_dataclass(output) and not isinstance(output, type):
        return replace(
            output, **{f.name: _with_activation(getattr(output, f.name), before, after) for f in fields(output)}
        )
    if isinstance(output, tuple | list):
        parts = [_with_activation(part, before, after) for part in output]
        named: Any = type(output)
        return named(*parts) if hasattr(output, "_fields") else named(parts)
    return output


def _check_score(score: Any, n: int) -> None:
    """Raise `LayerError` unless a score has one number per example, (n,)."""
    if not isinstance(score, Tensor) or score.shape != (n,) or not score.is_floating_point():
        actual = f"{score.dtype} {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
        raise LayerError(f"expected a score as float tensor ({n},), a number for each image, found {actual}")
