"""The reference: float64 from the images on, by the textbook formula and none of the package's own code.

HSIC_1 of Song et al. (2012, eq. 5), K and L with their diagonals set to zero:

    HSIC_1 = [tr(K L) + 1'K1 1'L1 / ((n - 1)(n - 2)) - 2 1'K L 1 / (n - 2)] / (n (n - 3))

and CKA as the ratio of its sums over batches (Nguyen, Raghu & Kornblith 2021). It is what every tool here says
it computes, so one reference serves all.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from workloads import Workload


def true_cka(workload: Workload) -> Tensor:
    """Return minibatch CKA, (layers, layers) float64."""
    models = [deepcopy(model).double() for model in workload.models]
    xy = xx = yy = 0.0
    for images in workload.inputs:
        x, y = (_grams(model, workload.layers, images.double()) for model in models)
        xy = xy + _hsic(x, y)
        xx = xx + torch.stack([_hsic(gram[None], gram[None])[0, 0] for gram in x])
        yy = yy + torch.stack([_hsic(gram[None], gram[None])[0, 0] for gram in y])
    return xy / (xx[:, None] * yy[None, :]).sqrt()


def largest_error(matrix: Tensor, reference: Tensor) -> tuple[float, int]:
    """Return the largest absolute error over all cells that are numbers, and how many are not."""
    errors = (matrix.double() - reference).abs()
    numbers = errors[errors.isfinite()]
    return float(numbers.max()) if len(numbers) else float("nan"), int(errors.numel() - len(numbers))


def _grams(model: nn.Module, layers: tuple[str, ...], images: Tensor) -> Tensor:
    """Return Grams without their diagonals, (layers, n, n) float64; made in the hook, before any in-place ReLU."""
    grams: dict[str, Tensor] = {}

    def hook_for(name: str):
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            features = output.flatten(1)
            features = features - features.mean(dim=0)
            grams[name] = (features @ features.mT).fill_diagonal_(0)

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(hook_for(name)) for name in layers]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return torch.stack([grams[name] for name in layers])


def _hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Return HSIC_1 of every pair, (rows, columns), from Grams without diagonals."""
    n = k.shape[-1]
    trace = k.flatten(1) @ l.flatten(1).mT  # tr(K L) of symmetric matrices
    sums = k.sum(dim=(1, 2))[:, None] * l.sum(dim=(1, 2))[None, :]
    middle = k.sum(dim=1) @ l.sum(dim=1).mT  # 1' K L 1
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * middle / (n - 2)) / (n * (n - 3))
