"""Record activations in one forward pass, as a function: hooks are added, the model runs, hooks are removed.

Whatever happens, no hook remains, and every module is in the train or eval mode it had. An activation is processed
inside its hook, so a later in-place operation does not affect it, and it can be freed at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cka_probe.errors import LayerError

T = TypeVar("T")


class _LastLayerRan(BaseException):  # not an Exception, which the model might catch
    """Ends a forward pass after the last layer that is recorded."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards every module has the mode it had before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def record(
    model: nn.Module,
    inputs: Any,
    modules: Sequence[str],
    keep: Callable[[str, Tensor], T],
    *,
    run: Callable[[Any], Any] | None = None,
    stop: bool = True,
) -> list[T]:
    """Run a model once without gradients and return the values of `keep` for each layer's activation.

    Args:
        model: The model that `modules` are in.
        inputs: The input of the model; its first axis is the examples.
        modules: Dotted paths, each once.
        keep: Called as `keep(module, activation)` inside the hook, with an activation (n, ...) that may be overwritten
            after the call.
        run: Called with `inputs` in place of `model`, for example a `Backbone` around it.
        stop: End the forward pass after the last of the layers. If False, a layer that runs again after all others is
            noticed.

    Returns:
        One value per entry of `modules`, in that order.

    Raises:
        LayerError: A layer never ran, ran twice, or did not put out one activation per example.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> record(model, torch.rand(5, 4), ["0", "1"], lambda module, activation: tuple(activation.shape))
    [(5, 3), (5, 3)]
    """
    values: dict[str, T] = {}
    n = len(inputs)

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if name in values:
                raise LayerError(f"layer {name!r} runs more than once in a forward pass; name a layer that runs once")
            values[name] = keep(name, activation_of(name, output, n).detach())
            if stop and len(values) == len(modules):
                raise _LastLayerRan

        return hook

    with ExitStack() as hooks, torch.no_grad(), evaluating(model):
        for name in modules:
            hooks.callback(model.get_submodule(name).register_forward_hook(hook_for(name)).remove)
        with suppress(_LastLayerRan):
            (run or model)(inputs)
    never = [name for name in modules if name not in values]
    if never:
        others = f" (nor did {len(never) - 1} more)" if len(never) > 1 else ""
        raise LayerError(f"layer {never[0]!r} never ran in the forward pass{others}; name layers that the model uses")
    return [values[name] for name in modules]


def trace_shapes(
    model: nn.Module, inputs: Any, run: Callable[[Any], Any] | None = None
) -> dict[str, list[tuple[int, ...]]]:
    """Run a model once and return, for every module that ran, the shapes of its outputs, one per call.

    Args:
        model: The model whose modules are traced.
        inputs: The input of the model.
        run: Called in place of `model`, as in `record`.
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = _unwrap(output)
            shapes.setdefault(name, []).append(tuple(tensor.shape) if isinstance(tensor, Tensor) else ())

        return hook

    with ExitStack() as hooks, torch.no_grad(), evaluating(model):
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_hook(hook_for(name)).remove)
        (run or model)(inputs)
    return shapes


def _unwrap(output: Any) -> Any:
    """Return a module's output: of a mapping the last hidden state, of a tuple or list the first item."""
    if isinstance(output, Mapping):  # transformers' outputs
        return output.get("last_hidden_state", next(iter(output.values()), None))
    return output[0] if isinstance(output, tuple | list) and output else output


def activation_of(name: str, output: Any, n: int) -> Tensor:
    """Return the activation in a module's output, whose first axis is the `n` examples.

    Raises:
        LayerError: It is not a float tensor, or its first axis is not that of the `n` examples.
    """
    output = _unwrap(output)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise LayerError(f"layer {name!r} puts out no float tensor but {type(output).__name__}; name another layer")
    if output.dim() < 2 or output.shape[0] != n:
        raise LayerError(
            f"layer {name!r} puts out {tuple(output.shape)} for {n} images; expected one activation per image on "
            "the first axis (windows or tokens are not examples); name another layer"
        )
    return output
