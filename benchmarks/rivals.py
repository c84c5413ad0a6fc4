"""The tools that run side by side: the floor, ours, and the CKA packages of PyPI, each as its README says.

An adapter does no more than call its package. Where a package cannot run as it stands, a second row runs it
adapted, and says how; the row of the package as it stands stays, with the error it gave.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import StringIO

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from workloads import Workload

from cka_probe import Backbone, compare

os.environ.setdefault("MPLBACKEND", "Agg")  # torch_cka imports pyplot


@dataclass(frozen=True)
class Tool:
    """One row of the table.

    Attributes:
        name: As the table shows it.
        package: Its distribution on PyPI; "" for the floor.
        run: Everything from the models and images to the matrix (rows: layers of x), or to None.
        note: What was done so that it could run, or how it was called.
    """

    name: str
    package: str
    run: Callable[[Workload], Tensor | None]
    note: str = ""

    def label(self) -> str:
        """Return the name with the version that is installed."""
        try:
            return f"{self.name} {version(self.package)}" if self.package else self.name
        except PackageNotFoundError:
            return f"{self.name} (not installed)"


def floor(workload: Workload) -> None:
    """Run both models over the batches with empty hooks on the layers."""
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda *_: None)
        for model in workload.models
        for name in workload.layers
    ]
    try:
        with torch.no_grad():
            for images in workload.inputs:
                inputs = images.to(device_of(workload))
                for model in workload.models:
                    model(inputs)
        if device_of(workload) == "cuda":
            torch.cuda.synchronize()
    finally:
        for hook in hooks:
            hook.remove()


def ours(workload: Workload, precision: str = "float32") -> Tensor:
    """Compare with everything at its default: intervals, null, hashes, and the images normalised by ourselves."""
    x, y = (Backbone(model, size=workload.size) for model in workload.models)
    result = compare(x, y, list(workload.images), layers=workload.spec, precision=precision)
    return torch.from_numpy(result.values)


def device_of(workload: Workload) -> str:
    """Return where the models are, `cpu` or `cuda`."""
    return next(workload.models[0].parameters()).device.type


def ours_bfloat16(workload: Workload) -> Tensor:
    """Compare with the forward passes in bfloat16."""
    return ours(workload, "bfloat16")


def ours_tf32(workload: Workload) -> Tensor:
    """Compare with the forward passes in TF32."""
    return ours(workload, "tf32")


def torch_cka(workload: Workload) -> Tensor:
    """Run torch_cka; its rows come in the order of execution."""
    from torch_cka import CKA

    with _quiet():
        layers = list(workload.layers)
        cka = CKA(*workload.models, "x", "y", model1_layers=layers, model2_layers=layers, device=device_of(workload))
        cka.compare(_loader(workload))
        return _reordered(cka.export()["CKA"].detach().cpu(), workload)


def torch_cka_no_grad(workload: Workload) -> Tensor:
    """Run torch_cka without gradients."""
    with torch.no_grad():
        return torch_cka(workload)


def pytorch_cka(workload: Workload) -> Tensor:
    """Run pytorch-cka."""
    from cka import compute_cka

    with _quiet():
        return compute_cka(
            *workload.models, _loader(workload), layers=list(workload.layers), device=device_of(workload)
        )[0].cpu()


def ckatorch(workload: Workload) -> Tensor:
    """Run ckatorch; its rows come in the order of execution."""
    from ckatorch import CKA

    return _ckatorch(workload, CKA)


def ckatorch_flattened(workload: Workload) -> Tensor:
    """Run ckatorch with each activation as one (1, n, p) stack, so that images are the examples."""
    from ckatorch import CKA

    class Flattened(CKA):
        def _hook(self, model: str, module_name: str, module: nn.Module, inp: object, out: Tensor) -> None:
            super()._hook(model, module_name, module, inp, out.flatten(1)[None])

    return _ckatorch(workload, Flattened)


def _ckatorch(workload: Workload, kind: type) -> Tensor:
    """Run a class of ckatorch over the images once."""
    with _quiet():
        cka = kind(
            *workload.models, layers=list(workload.layers), first_name="x", second_name="y", device=device_of(workload)
        )
        return _reordered(cka(_loader(workload), epochs=1), workload)


TOOLS = {
    "floor": Tool("bare forward passes", "", floor, "no_grad, eval, empty hooks on the same layers, no early stop"),
    "ours": Tool("cka_probe", "cka-probe", ours, "all defaults: intervals, 200 permutations, hashes"),
    "ours-bfloat16": Tool("cka_probe bfloat16", "cka-probe", ours_bfloat16, 'precision="bfloat16", else as above'),
    "ours-tf32": Tool("cka_probe TF32", "cka-probe", ours_tf32, 'precision="tf32", on GPUs, else as above'),
    "pytorch-cka": Tool("pytorch-cka", "pytorch-cka", pytorch_cka, "as its README"),
    "torch_cka": Tool("torch_cka", "torch_cka", torch_cka, "as its README; it keeps gradients"),
    "torch_cka-no-grad": Tool("torch_cka, adapted", "torch_cka", torch_cka_no_grad, "adapted: called under no_grad"),
    "ckatorch": Tool("ckatorch", "ckatorch", ckatorch, "as its example, epochs=1 (its default is 10)"),
    "ckatorch-flattened": Tool(
        "ckatorch, adapted",
        "ckatorch",
        ckatorch_flattened,
        "adapted: activations flattened to (1, n, p), epochs=1; of all batches only the last one counts",
    ),
}
NOT_HERE = {"anatome": "no distribution of this name can be installed from the package index"}
"""Packages the comparison was to have and could not have."""


def clear_hooks(workload: Workload) -> None:
    """Take off what a tool has left behind on the models, so that the next one does not pay for it."""
    for model in workload.models:
        for module in model.modules():
            module._forward_hooks.clear()


def _loader(workload: Workload) -> DataLoader:
    """Return the normalised images as the loader that all READMEs ask for."""
    return DataLoader(TensorDataset(torch.cat(workload.inputs)), batch_size=len(workload.inputs[0]), shuffle=False)


def _reordered(matrix: Tensor, workload: Workload) -> Tensor:
    """Return a matrix in the order of `layers` from one in the order of execution."""
    order = [workload.executed.index(name) for name in workload.layers]
    return matrix[order][:, order]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and warnings of other packages out of the progress of this one."""
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
