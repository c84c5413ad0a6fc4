"""Gradients of scores with respect to a layer's activation: a hook is added, the model runs, the hook is removed.

For a layer with activation A and each score S of an image, `gradients` computes A and dS/dA. A is a copy, and the
network continues with a copy of A, so an in-place operation after the layer (the ReLU after a batch norm, the sum of a
residual block) does not affect it, and A and dS/dA belong to the same point. The copy is a new leaf: nothing before it
is differentiated, so a frozen encoder does not matter and its graph is freed.

Gradients come from `torch.autograd.grad` with respect to the activation: no `grad` of a parameter is written, no
`requires_grad` is changed, and every module keeps its mode. It works inside `torch.no_grad()` and
`torch.inference_mode()`, except with weights that were themselves created in inference mode.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cka_probe.errors import LayerError
from cka_probe.models.layers import split_call
from cka_probe.models.recording import (
    Place,
    activation_tensor,
    eager,
    evaluating,
    model_errors,
    runs_again,
)

T = TypeVar("T")


def gradients(
    model: nn.Module,
    inputs: Any,
    layer: str,
    scores: Callable[[Any], Sequence[Tensor]],
    keep: Callable[[Tensor, Tensor], T],
    *,
    run: Callable[[Any], Any] | None = None,
    place: Place | None = None,
) -> tuple[Tensor, list[T]]:
    """Run a model once, and return for each score the value of `keep` for a layer's activation and gradient.

    In evaluation mode the images of a batch do not affect each other, so the gradient of the sum of a score over images
    is, image by image, the gradient of the image's own score.

    Args:
        model: The model that the layer is in.
        inputs: The input of the model, (n, ...) if a tensor; its first axis is the examples.
        layer: Dotted path; `relu#2` is the second call of `relu`.
        scores: Maps the output of the model to scores, (n,) each.
        keep: Called as `keep(activation, gradient)` for each score, with tensors (n, ...) that it must not change.
        run: Called with `inputs` in place of `model`.
        place: Where the activation is in the layer's output, from `probe`; by default its first axis is the examples.

    Returns:
        The m scores, (m, n), and m values of `keep`.

    Raises:
        LayerError: The layer never ran, ran twice, did not put out one activation per example, or does not affect the
            score.
        ModelError: The model raised an exception.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_inference():
            raise LayerError(
                f"weight {name!r} was made inside torch.inference_mode(), so nothing can be differentiated through it; "
                "make or load the model outside"
            )
    place = place or Place()
    leaves: list[Tensor] = []
    errors: list[BaseException] = []
    hook = _hook(layer, len(inputs), place, leaves, errors)
    # in evaluation mode in the backward pass too, which may run parts of the model again
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model), eager():
        if isinstance(inputs, Tensor) and inputs.is_inference():
            inputs = inputs.clone()  # a tensor of inference mode cannot be saved for the backward pass
        handle = model.get_submodule(split_call(layer)[0]).register_forward_hook(hook)
        try:
            with model_errors(model, errors):
                output = (run or model)(inputs)
        finally:
            handle.remove()
        if not leaves:
            raise LayerError(f"layer {layer!r} never ran in the forward pass; name a layer that the model uses")
        values = scores(output)
        results = []
        for index, row in enumerate(values):
            _check_score(row, len(inputs))
            gradient = None
            if row.requires_grad:
                last = index == len(values) - 1
                (gradient,) = torch.autograd.grad(row.sum(), leaves, retain_graph=not last, allow_unused=True)
            if gradient is None:
                raise LayerError(
                    f"layer {layer!r} does not affect the score: no gradient reaches it (its output is not used, or "
                    "what follows runs without gradients); name a layer between the image and the prediction"
                )
            results.append(keep(*(tensor.detach().movedim(place.axis, 0) for tensor in (leaves[0], gradient))))
    return torch.stack([row.detach() for row in values]), results


def _hook(layer: str, n: int, place: Place, leaves: list[Tensor], errors: list[BaseException]) -> Callable[..., Any]:
    """Return the hook that copies the activation to `leaves` and lets the network continue with a copy of that copy."""
    path, number = split_call(layer)
    calls = 0

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if number not in (None, calls):
            return None
        try:
            if leaves:
                raise runs_again(path)
            tensor = activation_tensor(layer, output, n, place)
        except LayerError as error:
            errors.append(error)
            raise
        leaves.append(tensor.detach().clone().requires_grad_())
        return _with_activation(output, tensor, leaves[0].clone())

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
