"""Unpickle tensors, arrays and plain values without executing anything that a file names.

Files of `torch.save` are read by torch's restricted unpickler (`weights_only=True`), plain pickles (detectron2, VISSL)
by Python's with the same rule: a class that a file names is looked up in a fixed list, and an inert stand-in takes its
place. So classes of a file are never imported, and `yacs` or `pytorch_lightning` need not be installed.

A checkpoint of `torch.distributed.checkpoint`, as FSDP saves it, is a folder with an index, `.metadata`, and files of
shards, `__0_0.distcp`. The index is a pickle with the shape of each tensor, and for each of its shards the offset in
the tensor and the file with its bytes, which `torch.save` wrote.
"""

import io
import pickle
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, serialization

from cka_probe.errors import CheckpointError

EXPECTED = "expected weights (.safetensors, or a .pth/.pt/.ckpt/.tar/.bin of torch.save)"


class Ignored:
    """Stand-in for an object without weights; accepts any arguments and stores none."""

    def __new__(cls, *args: object) -> "Ignored":
        """Return an empty stand-in."""
        del args
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        del args

    def __setstate__(self, state: object) -> None:
        del state


class PlainDict:
    """Stand-in for a foreign class of dict: an empty `OrderedDict`, which torch's unpickler can fill."""

    def __new__(cls, *args: object) -> Any:
        """Return an empty ordered dict, whatever the arguments."""
        del args
        return OrderedDict()


class Attributes(Ignored):
    """Stand-in for a namespace: its attributes, as a dict."""

    attributes: Mapping[str, object] = {}

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.attributes = dict(state)


class DType(Ignored):
    """Stand-in for a NumPy dtype; its code, such as `f4`, and whether its bytes are in the order of most machines."""

    def __init__(self, *args: object) -> None:
        self.code = str(args[0]) if args else ""
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            self.order = str(state[1])


class Array(Ignored):
    """Stand-in for a NumPy array of numbers."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def tensor(self) -> Tensor | None:
        """Return the array as a tensor, None if it holds no numbers."""
        if not (isinstance(self.state, tuple) and len(self.state) == 5):
            return None
        _, shape, dtype, is_fortran, data = self.state
        if not (isinstance(dtype, DType) and re.fullmatch(r"[fiu][1248]|b1", dtype.code)):
            return None
        data = data.encode("latin1") if isinstance(data, str) else data
        order = dtype.order if dtype.order in "<>" else "|"
        array = np.frombuffer(data, np.dtype(order + dtype.code)).reshape(shape, order="F" if is_fortran else "C")
        return from_numpy(array)


class PartialSum(Ignored):
    """Stand-in for the placement of a DTensor whose parts have to be added up."""


class TensorPart(Tensor):
    """Stand-in for a DTensor: its shape, and the part of it that one process had. No operation is possible on it."""

    part: Tensor
    is_whole = False
    __torch_dispatch__: Any = NotImplemented

    def __setstate__(self, state: Any) -> None:
        attributes: dict[str, Any] = {}
        for values in state if isinstance(state, tuple) else (state,):  # those of `__dict__` and of slots
            attributes |= values or {}
        self.part = attributes["_local_tensor"]
        placements = attributes["_spec"].attributes["placements"]
        self.is_whole = self.part.shape == self.shape and not any(isinstance(p, PartialSum) for p in placements)


def from_numpy(array: np.ndarray) -> Tensor:
    """Return an array as a tensor of its own memory; the two bytes of bfloat16, which NumPy lacks, as bfloat16."""
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


_DICTS = (
    "yacs.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "collections.defaultdict",
    "easydict.EasyDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_IGNORED = (
    *(f"builtins.{name}" for name in ("dict", "list", "int", "float", "tuple")),  # of a defaultdict
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"{module}.scalar" for module in _NUMPY),
    "numpy.ndarray",
    *(f"numpy.dtypes.{name}DType" for name in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool", "Str")),
    *(f"datetime.{name}" for name in ("datetime", "date", "timedelta")),
    "torch.torch_version.TorchVersion",
    "mmengine.logging.history_buffer.HistoryBuffer",
    *(f"omegaconf.{name}" for name in ("base.ContainerMetadata", "base.Metadata", "nodes.AnyNode")),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    "typing.Any",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
)
_DTENSOR = ("torch.distributed.tensor", "torch.distributed._tensor")
_MESH = ("device_mesh.DeviceMesh", "_mesh_layout._FlatLayout", "_mesh_layout._MeshLayout")
_SPEC = ("DTensorSpec", "TensorMeta", "ShardOrderEntry")
STAND_INS: list[Any] = [
    *((TensorPart, f"{module}.{name}") for module in _DTENSOR for name in ("DTensor", "api.DTensor")),
    *((Attributes, f"{module}._dtensor_spec.{name}") for module in _DTENSOR for name in _SPEC),
    *((Attributes, f"torch.distributed.{name}") for name in _MESH),
    *((Ignored, f"{m}.placement_types.{name}") for m in _DTENSOR for name in ("Shard", "Replicate", "_StridedShard")),
    *((PartialSum, f"{module}.placement_types.{name}") for module in _DTENSOR for name in ("Partial", "_Partial")),
    *((PlainDict, name) for name in _DICTS),
    *((Attributes, name) for name in ("argparse.Namespace", "types.SimpleNamespace")),
    *((Array, f"{module}._reconstruct") for module in _NUMPY),
    (DType, "numpy.dtype"),
    *((Ignored, name) for name in _IGNORED),
]
"""Classes that a pickle may name in addition to torch's own list, with what replaces them."""

QUANTISERS = ("torchao.", "bitsandbytes.", "quanto.", "optimum.", "auto_gptq.", "hqq.")
"""Beginnings of the names of classes of quantised tensors."""

INDEX = ".metadata"
"""The index of a checkpoint of `torch.distributed.checkpoint`."""

_RECORDS = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
"""Modules whose classes are read as their attributes."""

_SAFE_GLOBALS_LOCK = threading.Lock()


@contextmanager
def _only_stand_ins() -> Iterator[None]:
    """Allow torch's unpickler exactly `STAND_INS` while one file is read.

    Its list is global to the process, and other packages add to it (accelerate adds functions of numpy); their
    additions are restored afterwards.
    """
    with _SAFE_GLOBALS_LOCK:
        before = serialization.get_safe_globals()
        serialization.clear_safe_globals()
        serialization.add_safe_globals(STAND_INS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, on sparse tensors and old storages
                yield
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(before)


def unpickle(path: Path, *, is_zip: bool) -> object:
    """Return what torch.save wrote, by the restricted unpickler."""
    try:
        with _only_stand_ins(), open(path, "rb") as file:
            # mmap does not read an optimiser's moments, two thirds of many files
            by_path = is_zip and path.suffix != ".safetensors"  # torch trusts that suffix
            return torch.load(str(path) if by_path else file, map_location="cpu", weights_only=True, mmap=by_path)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        if forbidden := re.search(r"GLOBAL (\S+)", str(error)):
            raise _forbidden(path, forbidden[1]) from None
        raise _damaged(path, error) from error


def unpickle_plain(path: Path) -> object:
    """Return what `pickle.dump` wrote, if it is tensors, NumPy arrays and plain values.

    Raises:
        CheckpointError: It is damaged, or asks for anything else.
    """
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except _ForbiddenError as error:
        raise _forbidden(path, str(error)) from None
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise _damaged(path, error) from error


class _ForbiddenError(Exception):
    """A pickle names a class that is not on the list."""


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that returns stand-ins for all that a file names.

    `find_class` returns new functions, never classes, so that a file can neither change a class nor call one.
    """

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return a function that makes the stand-in for a class or function."""
        full = f"{module}.{name}"
        if full in ("collections.OrderedDict", *_DICTS):
            return lambda *args: {}
        if full in _REBUILT:
            return lambda *args: _REBUILT[full](*args)
        stand_in = next((stand_in for stand_in, known in STAND_INS if known == full), None)
        if stand_in is None:
            raise _ForbiddenError(full)
        return lambda *args: stand_in(*args)


def _storage(data: bytes) -> Any:
    """Return a storage that `pickle` wrote as bytes of torch.save."""
    with _only_stand_ins():
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: object) -> Tensor:
    """Return a tensor over a storage; one that is larger than its storage is an error."""
    del rest
    values = storage._untyped_storage  # as torch's own function does; the public methods are deprecated
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= values.nbytes() // storage.dtype.itemsize):
        raise ValueError(f"a tensor of shape {size} is larger than its storage of {values.nbytes()} bytes")
    return torch.empty(0, dtype=storage.dtype).set_(values, offset, size, stride)


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    """Return the bytes that a pickle of protocol 2 holds as text."""
    del encoding
    return text.encode("latin1")


_REBUILT: dict[str, Callable[..., Any]] = {
    "torch.storage._load_from_bytes": _storage,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "_codecs.encode": _bytes,
}
"""Functions that pickles of tensors and arrays name, with what replaces them."""


class _IndexUnpickler(_PlainUnpickler):
    """An unpickler that returns the attributes of the index's classes."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return a new class, which a file may change, or a function."""
        if module in _RECORDS:
            return type(name, (Attributes,), {})
        if (module, name) == ("torch", "Size"):
            return lambda lengths: tuple(lengths)
        if module == "torch" or (module, name) == ("torch.serialization", "_get_layout"):
            return lambda *args: None  # dtype and layout, which the shards have as well
        return super().find_class(module, name)


def read_shards(index: Path, omit: set[str]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name.

    Args:
        index: Its `.metadata`.
        omit: Tensors whose names have one of these as their first part are left out.

    Raises:
        CheckpointError: A file is missing or damaged, or the checkpoint is not one of tensors.
    """
    try:
        with open(index, "rb") as file:
            metadata = _IndexUnpickler(file).load().attributes
        shards: dict[str, list[tuple[tuple[int, ...], Tensor]]] = {}
        for key, place in metadata["storage_data"].items():
            name = key.attributes["fqn"]
            if name.partition(".")[0] not in omit and "size" in metadata["state_dict_metadata"][name].attributes:
                shards.setdefault(name, []).append((key.attributes["offset"], _shard(index.parent, place.attributes)))
        sizes = {name: metadata["state_dict_metadata"][name].attributes["size"] for name in shards}
        return {name: _from_shards(sizes[name], parts) for name, parts in shards.items()}
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise CheckpointError(
            f"{index.parent}: expected a whole checkpoint of torch.distributed.checkpoint, found a damaged one "
            f"({error_line(error)}); copy it again, or convert it where it was made: python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        ) from error


def _shard(folder: Path, place: dict[str, Any]) -> Tensor:
    """Return one shard from its file."""
    name = place["relative_path"]
    if Path(name).name != name or place.get("transform_descriptors"):
        raise ValueError(f"a shard in {name!r} that is outside of the folder or compressed")
    with open(folder / name, "rb") as file:
        file.seek(place["offset"])
        data = file.read(place["length"])
    with _only_stand_ins():
        tensor: Tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ValueError(f"a shard of shape {tuple(tensor.shape)} that is larger than its bytes")
    return tensor


def _from_shards(size: tuple[int, ...], shards: list[tuple[tuple[int, ...], Tensor]]) -> Tensor:
    """Return a tensor of a size from its shards and their offsets."""
    if sum(shard.numel() for _, shard in shards) != torch.Size(size).numel():
        raise ValueError(f"shards that are not the whole of a tensor of shape {size}")
    tensor = torch.empty(size, dtype=shards[0][1].dtype)
    for offset, shard in shards:
        ranges = tuple(slice(start, start + length) for start, length in zip(offset, shard.shape, strict=True))
        tensor[ranges].copy_(shard)
    return tensor


def _forbidden(path: Path, name: str) -> CheckpointError:
    """Return the error for a pickle that names something else than tensors and plain values."""
    if name.startswith(QUANTISERS):
        return CheckpointError(
            f"{path}: expected weights as they are used, found quantised ones of {name.partition('.')[0]}; save the "
            "model in float16 or float32"
        )
    return CheckpointError(
        f"{path}: expected tensors and plain values, found a pickle that asks for {name!r}, which was not run; save "
        "the model's state_dict() where the file was made"
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    """Return the error for a pickle that cannot be read."""
    return CheckpointError(
        f"{path}: {EXPECTED}, found a pickle that is damaged or holds more than weights ({error_line(error)}); copy it "
        "again, or save the model's state_dict() where it was made"
    )


def error_line(error: Exception) -> str:
    """Return the last informative line of an error's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "docs/stable" not in line]
    return f"{type(error).__name__}: {lines[-1][:100]}" if lines else type(error).__name__
