"""Batch norms that normalise over the images of all processes, as one process with all of them would.

    y = (x - mean) / sqrt(var + eps) * weight + bias,    mean = (sum_p sum x) / n,    var = (sum_p sum (x - mean)^2) / n

with sums over the positions of the images of each process p, and n of all. Processes may have different numbers of
images. The sums and their gradients are exchanged, on any device (torch's own `SyncBatchNorm` needs GPUs).
"""

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return _summed(part)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(part: Tensor) -> Tensor:
    total = part.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


class _SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm whose statistics are those of all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """Return images (n, c, ...) normalised; in evaluation by the running statistics."""
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalised(input.float()).to(input.dtype)

    def _normalised(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.ndim)]
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums = _Sum.apply(torch.cat([x.sum(dims), count]))
        shape = [1, -1, *[1] * (x.ndim - 2)]
        n, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dims)) / n
        self._track(mean.detach(), (variance * n / (n - 1).clamp(min=1)).detach())
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        return scaled if self.weight is None else scaled * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def share_batch_norms(model: nn.Module) -> None:
    """Let all batch norms of a model normalise over all processes in training, in place; with one process, do nothing.

    Raises:
        TypeError: One has a class of its own.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            if type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, _SharedBatchNorm):
                raise TypeError(f"expected a batch norm of torch, found {type(module).__name__}")
            cast(nn.Module, module).__class__ = _SharedBatchNorm  # parameters, buffers, hooks and name stay
