"""Run convolutions faster for the time of a forward pass: in the better memory format, and with the norms after them.

Channels-last images are the faster ones on CPUs, but with each call the weight is reordered for them, which takes
longer than the convolution if the map is small. There the images are made contiguous.

In evaluation mode a batch norm is affine: with scale `s = gamma / sqrt(var + eps)`, a convolution with weight s W and
bias `s (b - mean) + beta` puts out what the norm after it would. That saves a pass over the activation. The weight is
scaled each time the convolution runs, so that no second copy of the model is held; where that would be the longer
pass, the norm runs. A pair is folded only if the traced graph of the model shows that nothing but the norm reads the
convolution. No parameter changes, and the modules get their own `forward` back, whatever happens.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.nn import functional as F

from cka_probe.models.layers import split_call
from cka_probe.models.recording import evaluating

LIBRARIES = ("timm.", "torchvision.", "cka_probe.")
"""Libraries whose models may be traced and run in any memory format; a user's own may do anything, or call `view`."""

LARGE, SMALL = 32, 100
"""Elements of a weight for each of an image from which on scaling the weight costs more than scaling the output, and
from which on reordering it costs more than the convolution. Neither depends on how many images there are."""


@dataclass(frozen=True)
class Fold:
    """A convolution and the norm after it.

    Attributes:
        convolution: The convolution.
        norm: The norm.
        scale: (channels, 1, 1, 1) float32, `s`.
        bias: (channels,) float32, the bias with the norm in it.
    """

    convolution: nn.Conv2d
    norm: nn.BatchNorm2d
    scale: Tensor
    bias: Tensor

    def convolve(self, memory: Tensor, image: Tensor) -> Tensor:
        """Return what the norm puts out for an input of the convolution, without its activation.

        Args:
            memory: Where the scaled weight is written; one that is `LARGE` for the image is not scaled.
            image: Input of the convolution.
        """
        weight, norm = self.convolution.weight, self.norm
        if weight.numel() > LARGE * image[0].numel():
            output = _forward(self.convolution, image)
            return F.batch_norm(output, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        scaled = torch.mul(weight, self.scale, out=memory[: weight.numel()].view(weight.shape))
        return _convolve(self.convolution, image, scaled, self.bias)

    def after(self, image: Tensor) -> Tensor:
        """Return what the module of the norm does after it: timm's has an activation."""
        if not isinstance(self.norm, BatchNormAct2d):
            return image
        activated: Tensor = self.norm.act(self.norm.drop(image))
        return activated


class _Tracer(fx.Tracer):
    """Takes batch norms of timm for single operations as well."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is a single operation."""
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def find_folds(model: nn.Module, layers: Collection[str]) -> list[Fold]:
    """Return the convolutions of a model with a batch norm that can be folded, in evaluation mode.

    Args:
        model: The model; one that is of no library named in `LIBRARIES`, has forward hooks or a `forward` that was
            replaced, or cannot be traced has none.
        layers: Modules or calls of modules whose outputs are recorded; a convolution that is one of them, or whose
            output is that of one of them, is left as it is.
    """
    if not runs_in_any_format(model) or any(map(_is_changed, model.modules())):
        return []
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return []  # to trace a transformer takes a second
    try:
        with evaluating(model):
            nodes = list(_Tracer().trace(model).nodes)
    except Exception:  # the flow of the model depends on its input
        return []
    modules = dict(model.named_modules(remove_duplicate=False))
    recorded = [set(modules[split_call(name)[0]].modules()) for name in layers]
    calls = [id(modules[node.target]) for node in nodes if node.op == "call_module"]
    folds = []
    for node in nodes:
        source = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        first, second = modules[str(source.target)], modules[str(node.target)]
        if not calls.count(id(first)) == calls.count(id(second)) == 1:
            continue
        if any(first in parts and second not in parts for parts in recorded):  # a layer puts out what the norm reads
            continue
        if (
            isinstance(first, nn.Conv2d)
            and isinstance(second, nn.BatchNorm2d)
            and _is_plain(first)
            and _is_plain(second)
        ):
            folds.append(fold(first, second))
    return folds


def _is_changed(module: nn.Module) -> bool:
    """Return whether a module does more or other than the forward pass of its class."""
    return bool("forward" in module.__dict__ or module._forward_hooks or module._forward_pre_hooks)


def _is_plain(module: nn.Module) -> bool:
    """Return whether a module is a convolution or norm of float32 parameters that nothing else reads or changes."""
    if type(module) not in (nn.Conv2d, nn.BatchNorm2d, BatchNormAct2d):
        return False
    parameters = [value for value in module._parameters.values() if value is not None]
    plain = all(type(value) is nn.Parameter and value.dtype == torch.float32 for value in parameters)
    statistics = getattr(module, "running_var", module) is not None
    return plain and statistics and len(parameters) > 0


def fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Fold:
    """Return a convolution with the norm after it."""
    ones = torch.ones(norm.num_features, dtype=torch.float64, device=convolution.weight.device)
    mean, variance, gamma, beta, offset = (
        default if value is None else value.detach().double()
        for value, default in (
            (norm.running_mean, 0 * ones),
            (norm.running_var, ones),
            (norm.weight, ones),
            (norm.bias, 0 * ones),
            (convolution.bias, 0 * ones),
        )
    )
    scale = gamma / (variance + norm.eps).sqrt()
    return Fold(convolution, norm, scale.float()[:, None, None, None], ((offset - mean) * scale + beta).float())


def _convolve(convolution: nn.Conv2d, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what a convolution with this weight and bias puts out, in the memory format that is faster."""
    if image.is_cpu and image.dim() == 4 and weight.numel() > SMALL * image[0].numel():
        image = image.contiguous()
    output: Tensor = convolution._conv_forward(image, weight, bias)
    return output


def _forward(convolution: nn.Conv2d, image: Tensor) -> Tensor:
    """Return what a convolution puts out."""
    return _convolve(convolution, image, convolution.weight, convolution.bias)


@contextmanager
def fast_convolutions(model: nn.Module, folds: Sequence[Fold] = ()) -> Iterator[None]:
    """Run the convolutions of a library's model faster; afterwards every module is as it was.

    Args:
        model: The model; one that is of no library named in `LIBRARIES` runs as it is, but for the folds.
        folds: Convolutions that run with the norm after them.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    >>> images = torch.rand(2, 3, 8, 8)
    >>> with torch.no_grad(), fast_convolutions(net, [fold(net[0], net[1])]):
    ...     after = net[0](images)
    >>> bool((net(images) - after).abs().max() < 1e-6)
    True
    """
    largest = max((fold.convolution.weight for fold in folds), key=Tensor.numel, default=torch.empty(0))
    memory = torch.empty_like(largest).flatten()  # of all: to allocate it for each would cost more than to write it
    forwards: dict[nn.Module, Callable[[Tensor], Tensor]] = {
        module: partial(_forward, module)
        for module in (model.modules() if runs_in_any_format(model) else ())
        if type(module) is nn.Conv2d and "forward" not in module.__dict__
    }
    forwards |= {fold.convolution: partial(fold.convolve, memory) for fold in folds}
    forwards |= {fold.norm: fold.after for fold in folds}
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module in forwards:
            module.__dict__.pop("forward", None)


def runs_in_any_format(model: nn.Module) -> bool:
    """Return whether a model is of a library whose models accept images in any memory format."""
    return type(model).__module__.startswith(LIBRARIES)
