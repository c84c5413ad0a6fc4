"""Feature matrices and activation arrays that were computed elsewhere, of images or of anything else.

They take the place of a model: each array is a layer, (n, p) or (n, ...), and row i of every array is example i. Rows
are compared in random order, chosen by the seed, so that batches mix the classes of a sorted file.

A file holds features if it is

- `.npy` with an array of numbers, or
- `.npz` or `.safetensors` whose arrays of floats all have the same length n of at least 4 along the first axis, and
  none of whose names ends as those of weights do (`weight`, `bias`, `kernel` …).

`features:FILE` says that a file holds features whatever its names are. Arrays of whole numbers and of text in a file
with arrays of floats, such as labels, are left out and named.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor, nn

from cka_probe.comparison.fingerprint import Fingerprint, Settings
from cka_probe.comparison.results import ROWS
from cka_probe.errors import DataError, FingerprintError
from cka_probe.files import read_metadata
from cka_probe.images.datasets import sample_indices
from cka_probe.images.stream import FEWEST, ImageStream
from cka_probe.models.backbone import Backbone, Origin
from cka_probe.models.checkpoints.reading import check_expansion
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.similarity.features import tokens_per_image

Features = Tensor | npt.NDArray[Any] | Mapping[str, Any]
"""An array (n, p) or (n, ...) of numbers, or several by name."""

PREFIX = "features:"
SUFFIXES = (".npy", ".npz", ".safetensors")
WEIGHTS = ("weight", "bias", "kernel", "scale", "gamma", "beta", "running_mean", "running_var", "embedding", "cls")
"""The last part of the names of weights."""

Header = tuple[str, tuple[int, ...]]
"""The kind of an array, "float", "number" or "other", and its shape."""


class _Rows(nn.Module):
    """An array of which a call returns rows; it may contain others, so that names may have dots."""

    values: Tensor

    def forward(self, indices: Tensor) -> Tensor:
        return self.values[indices]


class FeatureTable(_Rows):
    """A model that looks up the activations of an example by its row.

    Args:
        arrays: (n, ...) floats each, by the name of the layer.

    >>> FeatureTable({"a.b": torch.rand(5, 2)}).get_submodule("a.b")(torch.tensor([0, 3])).shape
    torch.Size([2, 2])
    """

    def __init__(self, arrays: Mapping[str, Tensor]):
        super().__init__()
        self.num_rows = len(next(iter(arrays.values())))
        self.layers = LayerMap(())  # an array may be called so, too
        self.layers = LayerMap(tuple(Layer(name, self._add(name, array)) for name, array in arrays.items()))

    def _add(self, name: str, array: Tensor) -> str:
        """Register an array under its name, and return the path of its module."""
        module: nn.Module = self
        path = []
        for part in name.split("."):
            children = dict(module.named_children())
            while not part or (part not in children and hasattr(module, part)):
                part += "_"  # the name of an attribute of modules
            if part not in children:
                module.add_module(part, _Rows())
            module = module.get_submodule(part)
            path.append(part)
        module.register_buffer("values", array)
        return ".".join(path)

    @property
    def is_matrix(self) -> bool:
        """Whether every array is (n, p)."""
        return all(buffer.dim() == 2 for buffer in self.buffers())

    def forward(self, indices: Tensor) -> Tensor:
        """Look up rows (n,) in every array; the activations of the layers are what counts."""
        for path in self.layers.modules:
            rows: Tensor = self.get_submodule(path)(indices)
        return rows

    def stream(self, num: int | None, batch: int | None, seed: int) -> ImageStream:
        """Return row numbers, () int64 each, in random order, as a stream of examples."""
        indices = sample_indices(self.num_rows, num, seed)
        return ImageStream(ROWS, len(indices), batch or 64, lambda _: (partial(torch.tensor, row) for row in indices))


def features_as_backbone(features: Any, reference: str | None = None, notes: tuple[str, ...] = ()) -> Backbone:
    """Return arrays as a backbone, whose layers they are.

    Args:
        features: An array (n, p) or (n, ...), or a mapping of names to such; numbers of any dtype.
        reference: What results call them; by default their shape.
        notes: What results note about them.

    Raises:
        DataError: An array is not of numbers, has fewer than four rows, or other rows than the first.
    """
    arrays = features if isinstance(features, Mapping) else {"features": features}
    tensors = {str(name): _as_floats(str(name), array) for name, array in arrays.items()}
    counts = {name: len(tensor) for name, tensor in tensors.items()}
    if not tensors or len(set(counts.values())) > 1 or min(counts.values()) < FEWEST:
        rows = ", ".join(f"{count} of {name}" for name, count in counts.items()) or "no array"
        raise DataError(
            f"expected arrays with the same number of rows, at least {FEWEST}, found {rows}; row i of each is example i"
        )
    table = FeatureTable(tensors)
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    reference = reference or (f"features {shapes[0]}" if len(shapes) == 1 else f"features of {len(shapes)} layers")
    origin = Origin(reference, "features", notes=notes)
    return Backbone(table, mean=(0.0,), std=(1.0,), layers=table.layers, origin=origin)


def is_features(path: str | Path) -> bool:
    """Return whether a string names a file of features; see the rule of this module."""
    if str(path).startswith(PREFIX):
        return True
    path = Path(path)
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    try:
        headers = _headers(path)
    except Exception:  # a damaged or hostile file can fail in any way
        return False
    if path.suffix == ".npy":
        return True
    if path.suffix == ".safetensors" and "ckaprobe" in (read_metadata(path) or {}):
        return False
    counts = {shape[0] if shape else 0 for kind, shape in headers.values() if kind == "float"}
    weights = any(name.replace("/", ".").rpartition(".")[2] in WEIGHTS for name in headers)
    return len(counts) == 1 and min(counts) >= FEWEST and not weights


def load_features(path: str | Path) -> Backbone:
    """Return the arrays of a file as a backbone.

    Args:
        path: A file, or `features:FILE`.

    Raises:
        DataError: It cannot be read, or holds no features.
    """
    file = Path(str(path).removeprefix(PREFIX))
    if file.suffix not in SUFFIXES or not file.is_file():
        problem = "that" if file.exists() else "nothing"
        raise DataError(f"{file}: expected a file of features ({', '.join(SUFFIXES)}), found {problem}; give another")
    try:
        headers = _headers(file)
        kinds = ("float",) if any(kind == "float" for kind, _ in headers.values()) else ("float", "number")
        names = [name for name, (kind, _) in headers.items() if kind in kinds]
        arrays = _read(file, names)
    except Exception as error:  # a damaged or hostile file can fail in any way
        raise DataError(
            f"{file}: expected arrays of numbers, found {error}; save them again, without pickle"
        ) from error
    others = [name for name in headers if name not in names]
    if not names:
        raise DataError(
            f"{file}: expected arrays of numbers, found {', '.join(others) or 'none'}; give features (n, p)"
        )
    notes = (f"left out, as they are not floats: {', '.join(others)}",) if others else ()
    return features_as_backbone(arrays, str(file), notes)


def tables(sides: Sequence[Backbone | Fingerprint]) -> list[FeatureTable]:
    """Return the features among the sides of a comparison."""
    models = [side.model for side in sides if isinstance(side, Backbone)]
    return [model for model in models if isinstance(model, FeatureTable)]


def are_pooled(sides: Sequence[Backbone | Fingerprint], features: str) -> bool:
    """Return whether all features are few enough for sums of their products, as pooled ones and matrices are.

    Raises:
        FingerprintError: A side is a fingerprint.
        DataError: Features are tokens, which have several examples per image.
    """
    matrices = all(
        isinstance(side, Backbone) and isinstance(side.model, FeatureTable) and side.model.is_matrix for side in sides
    )
    if any(isinstance(side, Fingerprint) for side in sides):
        raise FingerprintError(
            "expected models or features for one batch of all images, found a fingerprint; give its model"
        )
    if tokens_per_image(features) > 1:
        raise DataError(
            "expected flattened or pooled features (--features flatten or gap) for one batch of all images, found "
            "tokens; set --batch to the number of images for one batch of Grams"
        )
    return features == "gap" or matrices


def row_stream(sides: Sequence[Backbone | Fingerprint], images: Any, settings: Settings) -> ImageStream:
    """Return the rows of features as a stream of examples.

    Raises:
        DataError: A side has other examples than rows, there are images, or one side has more rows.
    """
    models = tables(sides)
    stored = [side for side in sides if isinstance(side, Fingerprint) and side.source == ROWS]
    if len(models) + len(stored) < len(sides) or images is not None:
        raise DataError(
            "expected features on both sides and no images, since features are paired by row, found "
            f"{'images' if images is not None else 'a model or its fingerprint'}; save the features of both models"
        )
    counts = [model.num_rows for model in models]
    if len(set(counts)) > 1:
        raise DataError(
            f"expected as many rows of x as of y, which are paired, found {' and '.join(map(str, counts))}; give the "
            "features of the same examples"
        )
    return models[0].stream(settings.num, settings.batch, settings.seed)


def _headers(path: Path) -> dict[str, Header]:
    """Return the header of each array of a file by name; that of a `.npy` is the name of the file."""
    if path.suffix == ".npy":
        with path.open("rb") as file:
            return {path.stem: _npy_header(file)}
    if path.suffix == ".npz":
        with ZipFile(path) as archive:
            headers = {}
            for member in archive.namelist():
                with archive.open(member) as file:
                    headers[member.removesuffix(".npy")] = _npy_header(file)
            return headers
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in sorted(file.keys())}
        kinds = {"F": "float", "B": "float", "I": "number", "U": "number"}
        return {
            name: ("number" if part.get_dtype() == "BOOL" else kinds[part.get_dtype()[0]], tuple(part.get_shape()))
            for name, part in slices.items()
        }


def _npy_header(file: IO[bytes]) -> Header:
    """Return the header of an array in NumPy's format."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return {"f": "float", "i": "number", "u": "number", "b": "number"}.get(dtype.kind, "other"), shape


def _read(path: Path, names: list[str]) -> dict[str, Any]:
    """Return some arrays of a file by name."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}
    if path.suffix == ".npy":
        return {name: np.load(path, allow_pickle=False) for name in names}
    check_expansion(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in names}


def _as_floats(name: str, values: Any) -> Tensor:
    """Return an array as a tensor of floats, (n, ...) with at least two axes; whole numbers as float64."""
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
        numbers = not tensor.is_complex()
    else:
        array = np.asarray(values)
        numbers = array.dtype.kind in "fiub"
        keep = array.dtype.kind == "f" and array.dtype.itemsize <= 8
        array = array.astype(array.dtype.newbyteorder("=") if keep else np.float64) if numbers else np.empty(0)
        tensor = torch.from_numpy(array)
    if not numbers or not tensor.dim():
        raise DataError(
            f"{name}: expected an array of numbers (n, p) or (n, ...), found {_described(values)}; correct it"
        )
    tensor = tensor if tensor.is_floating_point() else tensor.double()
    return tensor if tensor.dim() > 1 else tensor[:, None]


def _described(values: Any) -> str:
    """Return type, dtype and shape of what is no array of numbers."""
    array = values if isinstance(values, Tensor) else np.asarray(values)
    return f"{type(values).__name__} of {array.dtype}, {tuple(array.shape)}"
