"""Recording is a function: hooks go in, one forward pass, hooks come out.

Whatever happens, no hook is left behind and every module is back in its own train or eval mode. What is kept of
an activation is made inside its hook, at the moment the layer puts it out, so an in-place operation that follows
changes nothing and the activation need not outlive its turn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cka_probe.errors import LayerError

T = TypeVar("T")


class _Enough(BaseException):  # not an Exception: a model that catches those must not catch this
    """The last wanted layer has run."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards every module has its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Turn TF32 off in products and convolutions on a GPU; afterwards it is as before."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def record(
    model: nn.Module,
    inputs: Any,
    modules: Sequence[str],
    keep: Callable[[str, Tensor], T],
    *,
    run: Callable[[Any], Any] | None = None,
    stop: bool = True,
) -> list[T]:
    """Run a model once without gradients and return what `keep` makes of each layer's activation.

    Args:
        model: Modules are addressed relative to it.
        inputs: What the model is called with; its first axis is the examples.
        modules: Dotted paths, each once.
        keep: Called as `keep(module, activation)` inside the hook; the activation is (n, ...), only for the
            duration of the call.
        run: What is called with `inputs`, where that is not `model` itself (a `Backbone` around it).
        stop: Leave the forward pass after the last wanted layer. Without it a layer that runs again after all
            others is found out.

    Returns:
        One value per entry of `modules`, in that order.

    Raises:
        LayerError: A layer never ran, ran twice, or did not put out one activation per example.
    """
    kept: dict[str, T] = {}
    n = len(inputs)

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if name in kept:
                raise LayerError(f"layer {name!r} runs more than once in a forward pass; name a layer that runs once")
            kept[name] = keep(name, activation_of(name, output, n).detach())
            if stop and len(kept) == len(modules):
                raise _Enough

        return hook

    with ExitStack() as hooks, torch.no_grad(), evaluating(model):
        for name in modules:
            hooks.callback(model.get_submodule(name).register_forward_hook(hook_for(name)).remove)
        with suppress(_Enough):
            (run or model)(inputs)
    never = [name for name in modules if name not in kept]
    if never:
        others = f" (nor did {len(never) - 1} more)" if len(never) > 1 else ""
        raise LayerError(f"layer {never[0]!r} never ran in the forward pass{others}; name layers that the model uses")
    return [kept[name] for name in modules]


def trace_shapes(
    model: nn.Module, inputs: Any, run: Callable[[Any], Any] | None = None
) -> dict[str, list[tuple[int, ...]]]:
    """Run a model once and return, for every module that ran, the shapes it put out, one per call.

    Args:
        model: Modules are addressed relative to it.
        inputs: What the model is called with.
        run: What is called instead of `model`, as in `record`.
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = _opened(output)
            shapes.setdefault(name, []).append(tuple(tensor.shape) if isinstance(tensor, Tensor) else ())

        return hook

    with ExitStack() as hooks, torch.no_grad(), evaluating(model):
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_hook(hook_for(name)).remove)
        (run or model)(inputs)
    return shapes


def _opened(output: Any) -> Any:
    """Return what a module put out, or the first or last hidden part of what wraps it."""
    if isinstance(output, Mapping):  # transformers' outputs
        return output.get("last_hidden_state", next(iter(output.values()), None))
    return output[0] if isinstance(output, tuple | list) and output else output


def activation_of(name: str, output: Any, n: int) -> Tensor:
    """Return the activation in a module's output, one per example, or say why there is none.

    Raises:
        LayerError: It is no float tensor, or its first axis is not that of the `n` examples.
    """
    output = _opened(output)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise LayerError(f"layer {name!r} puts out no float tensor but {type(output).__name__}; name another layer")
    if output.dim() < 2 or output.shape[0] != n:
        raise LayerError(
            f"layer {name!r} puts out {tuple(output.shape)} for {n} images; expected one activation per image on "
            "the first axis (windows or tokens are no examples); name another layer"
        )
    return output
