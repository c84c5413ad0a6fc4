"""Differentiating is a function: hooks go in, one forward pass, gradients come out, hooks are gone.

For each wanted layer with activation A and each score S of an image, `gradients` gives A and dS/dA. The activation
that is kept is a copy, and the network goes on with a copy of that, so an in-place operation after the layer (the ReLU
behind a batch norm, the sum of a residual block) changes nothing that is kept, and A and dS/dA belong to the same
point. Upstream of the first wanted layer nothing is differentiated: its copy is a new leaf, so a frozen encoder is no
obstacle and the graph in front of it is let go.

Gradients are those of `torch.autograd.grad` with respect to activations alone: no parameter's `grad` is written, no
`requires_grad` is touched, and every module is back in its own mode whatever happens. It works inside
`torch.no_grad()` and `torch.inference_mode()`, for which the pass is made outside of both; only weights that were
themselves made in inference mode cannot be differentiated through, which one line says.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cka_probe.errors import LayerError
from cka_probe.models.recording import activation_of, evaluating

T = TypeVar("T")


@contextmanager
def differentiating() -> Iterator[None]:
    """Record operations for gradients, whatever mode the caller is in; afterwards that mode is back."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def gradients(
    model: nn.Module,
    inputs: Any,
    modules: Sequence[str],
    scores: Callable[[Any], Sequence[Tensor]],
    keep: Callable[[str, Tensor, Tensor], T],
    *,
    run: Callable[[Any], Any] | None = None,
) -> tuple[Tensor, list[list[T]]]:
    """Run a model once and return, of each score, what `keep` makes of each layer's activation and gradient.

    Images of a batch do not see each other in evaluation mode, so the gradient of a sum over images is, image by
    image, that of its own score.

    Args:
        model: Modules are addressed relative to it.
        inputs: What the model is called with, (n, ...) if a tensor; its first axis is the examples.
        modules: Dotted paths, each once.
        scores: Takes what the model puts out and returns scores, (n,) each, a number for each example.
        keep: Called as `keep(module, activation, gradient)`, both of the shape of the activation, neither to be
            changed, once for each score and layer.
        run: What is called with `inputs`, where that is not `model` itself.

    Returns:
        The m scores, (m, n), and for each of them a list of one value per entry of `modules`, in that order.

    Raises:
        LayerError: A layer never ran, ran twice, did not put out one activation per example, or does not affect the
            score.
    """
    _check_weights(model)
    kept: dict[str, Tensor] = {}
    with differentiating(), evaluating(model):  # in the backward pass too, which may run parts of the model again
        if isinstance(inputs, Tensor) and inputs.is_inference():
            inputs = inputs.clone()  # a tensor of inference mode cannot be saved for the backward pass
        with ExitStack() as hooks:
            for name in modules:
                hook = _hook(name, len(inputs), kept)
                hooks.callback(model.get_submodule(name).register_forward_hook(hook).remove)
            output = (run or model)(inputs)
        never = [name for name in modules if name not in kept]
        if never:
            raise LayerError(f"layer {never[0]!r} never ran in the forward pass; name a layer that the model uses")
        values = _checked(scores(output), len(inputs))
        rows = [
            [keep(name, kept[name].detach(), gradient) for name, gradient in zip(modules, row, strict=True)]
            for row in _backwards(values, [kept[name] for name in modules], modules)
        ]
    return torch.stack([row.detach() for row in values]), rows


def _hook(name: str, n: int, kept: dict[str, Tensor]) -> Callable[..., Any]:
    """Return the hook that keeps a copy of a layer's activation and lets the network go on with a copy of that."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if name in kept:
            raise LayerError(f"layer {name!r} runs more than once in a forward pass; name a layer that runs once")
        activation = activation_of(name, output, n)
        if kept and activation.requires_grad:  # it may depend on a layer that is wanted, too
            kept[name] = activation.clone()
        else:
            kept[name] = activation.detach().clone().requires_grad_()
        return _with(output, kept[name].clone())

    return hook


def _with(output: Any, activation: Tensor) -> Any:
    """Return what a module put out with its activation replaced, in the place where `activation_of` found it."""
    if isinstance(output, Mapping):  # transformers' outputs, whose attributes keep in step with their items
        place = "last_hidden_state" if "last_hidden_state" in output else next(iter(output))
        replaced: Any = copy(output)
        replaced[place] = activation
        return replaced
    if isinstance(output, tuple) and hasattr(output, "_replace"):
        named: Any = output
        return named._replace(**{named._fields[0]: activation})
    if isinstance(output, tuple | list):
        return type(output)([activation, *output[1:]])
    return activation


def _checked(values: Sequence[Tensor], n: int) -> Sequence[Tensor]:
    """Return scores, (n,) each, or say what is wrong with them."""
    for row in values:
        if not isinstance(row, Tensor) or row.shape != (n,) or not row.is_floating_point():
            found = f"{row.dtype} {tuple(row.shape)}" if isinstance(row, Tensor) else type(row).__name__
            raise LayerError(f"expected a score as float tensor ({n},), a number for each image, found {found}")
    return values


def _backwards(
    values: Sequence[Tensor], activations: list[Tensor], modules: Sequence[str]
) -> Iterator[tuple[Tensor, ...]]:
    """Yield for each score its gradients with respect to the activations."""
    for place, row in enumerate(values):
        if not row.requires_grad:
            raise _no_effect(modules[0])
        row_gradients = torch.autograd.grad(
            row.sum(), activations, retain_graph=place < len(values) - 1, allow_unused=True
        )
        for name, gradient in zip(modules, row_gradients, strict=True):
            if gradient is None:
                raise _no_effect(name)
        yield row_gradients


def _no_effect(name: str) -> LayerError:
    """Return the error for a layer that no gradient reaches."""
    return LayerError(
        f"layer {name!r} does not affect the score: no gradient reaches it (its output is not used, or what follows "
        "runs without gradients); name a layer between the image and the prediction"
    )


def _check_weights(model: nn.Module) -> None:
    """Check that none of the weights was made in inference mode."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_inference():
            raise LayerError(
                f"weight {name!r} was made inside torch.inference_mode(), so nothing can be differentiated through it; "
                "make or load the model outside"
            )
