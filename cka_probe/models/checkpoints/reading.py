"""Read tensors and plain values from an untrusted file without executing anything in it.

The reader is chosen by the first bytes and not by the suffix, because `.pth`, `.ckpt`, `.tar` and `.bin` may be any
format: safetensors, `torch.save` of any version, `pickle.dump` of arrays (detectron2, VISSL), NumPy's `.npz` (JAX),
the `*.index.json` of files in several parts, or the `.metadata` of a checkpoint of `torch.distributed.checkpoint`.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.files import is_safetensors, read_json
from cka_probe.models.checkpoints.pickles import (
    EXPECTED,
    INDEX,
    Array,
    Attributes,
    TensorPart,
    error_line,
    from_numpy,
    read_shards,
    unpickle,
    unpickle_plain,
)
from cka_probe.models.layers import WRAPPERS

Value = bool | int | float | str | tuple[Any, ...]

NO_WEIGHTS = {
    *("optim", "optimizer", "optimizers", "optimizer_states", "lr_scheduler", "lr_schedulers", "scaler", "amp"),
    *("loops",),
}
"""Top-level groups of a training run whose tensors are not weights."""

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle in a file of torch.save before 1.6: its magic number."""

FOREIGN = "; give weights of PyTorch, or a package.module:function that returns the model"
PROGRAM = "a program of torch.export: torch.save(program.state_dict, FILE) saves its weights"

ZIPS = {
    "constants.pkl": "TorchScript, which holds code: save its state_dict() instead",
    "serialized_exported_program.json": PROGRAM,
    "archive_format": PROGRAM,
    "model.weights.h5": f"a model of Keras{FOREIGN}",
}
"""Names of files in zip archives, and what they are."""

SCALED = (
    *(".SCB", ".absmax", ".quant_map", ".qweight", ".qzeros", ".weight_scale_inv", ".scale_weight"),
    *("weight_scale", ".weight_packed", "weight_qdata", "weight:qdata", ".weight._data", ".zero_point"),
)
"""Ends of names that quantised weights and their scales have (bitsandbytes, GPTQ, torchao, quanto, PyTorch)."""

MOST_EXPANDED = 1 << 32
"""Bytes by which the tensors of a file may be larger than eight times the file: expanded ones store few values."""

COMPRESSION = 100
"""How many times larger than its file the arrays of an `.npz` may be."""

PARTS = "*.index.json"
"""Lists the file of each tensor, where transformers saved several."""

WEIGHTS_FILES = ("encoder.pth", "model.safetensors", "pytorch_model.bin", INDEX)
"""The file of weights in a folder of Monodepth2, transformers or `torch.distributed.checkpoint`."""

SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x89HDF": f"an HDF5 file, as Keras has{FOREIGN}",
    b"GGUF": f"a GGUF file of llama.cpp{FOREIGN}",
    b"\x93NUMPY": "one NumPy array; an .npz has arrays with names",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"version https://git-lfs": "a git-lfs pointer: fetch the file itself with `git lfs pull`",
    b"%PDF": "a PDF",
}


@dataclass(frozen=True)
class Contents:
    """The contents of a file.

    Attributes:
        path: The file.
        container: Its format, in words.
        tensors: By dotted name, with the names of enclosing dicts and without `module` and `WRAPPERS`.
        values: Numbers, strings and tuples of numbers by dotted name (`height`, `config.DATA.IMG_SIZE`), and those of
            a `config.json` in the same folder (`config.json.image_size`), as the hubs of transformers and timm have.
        config: That `config.json`, or the `open_clip_config.json`, as it is; empty if there is none.
    """

    path: Path
    container: str
    tensors: dict[str, Tensor]
    values: dict[str, Value]
    config: dict[str, Any] = field(default_factory=dict)


def read_contents(path: Path) -> Contents:
    """Read a file of weights of any origin.

    Args:
        path: The file, or the `*.index.json` of one in several parts.

    Raises:
        CheckpointError: It is missing or damaged, is not a file of weights, or needs a class that is not on the list.
    """
    container, loaded = _read_parts(path) if path.name.endswith(PARTS[1:]) else _read(path)
    tensors: dict[str, Tensor] = {}
    arrays: dict[str, Tensor] = {}
    values: dict[str, Value] = {}
    if isinstance(loaded, dict):
        for name, value in _walk({key: value for key, value in dict.items(loaded) if key not in NO_WEIGHTS}):
            if isinstance(value, TensorPart):
                value = _whole(path, name, value)
            if isinstance(value, Tensor) and name in tensors:
                raise CheckpointError(f"{path}: expected one tensor of each name, found {name!r} twice; save it again")
            if isinstance(value, Tensor):
                tensors[name] = value
            elif isinstance(value, Array):
                arrays |= {} if (tensor := value.tensor()) is None else {name: tensor}
            else:
                values[name] = value
    tensors = tensors or arrays  # next to tensors, arrays are curves and statistics
    if not tensors:
        kind = f"a {type(loaded).__name__}"
        if isinstance(loaded, dict):
            kind = f"a dict of {', '.join(map(str, list(loaded)[:4])) or 'nothing'} without weights"
        raise CheckpointError(f"{path}: expected a dict of named tensors, found {kind}; save the model's state_dict()")
    _check_plain(path, tensors)
    config = read_config(path.parent)
    return Contents(path, container, tensors, values | _config_values(config), config)


def _whole(path: Path, name: str, part: TensorPart) -> Tensor:
    """Return the values of a tensor that one process had; `CheckpointError` if it had only a part of them."""
    if not part.is_whole:
        raise CheckpointError(
            f"{path}: expected whole tensors, found a part of a sharded one, {name!r}, of shape {tuple(part.shape)}; "
            "save get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) of "
            "torch.distributed.checkpoint.state_dict, or the whole folder with torch.distributed.checkpoint.save"
        )
    return part.part


def _read(path: Path) -> tuple[str, object]:
    """Return the format of one file, in words, and what it holds."""
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path}: {EXPECTED}, found a device or a pipe; give a file")
        with open(path, "rb") as file:
            start = file.read(300)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: {EXPECTED}, found no such file; check the path") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {EXPECTED}, but it cannot be read: {error.strerror}") from error
    if path.name == INDEX:
        return "torch.distributed.checkpoint", read_shards(path, NO_WEIGHTS)
    if path.suffix == ".distcp":
        raise CheckpointError(f"{path}: {EXPECTED}, found shards of several tensors; give the folder that it is in")
    if is_safetensors(path):
        return "safetensors", _read_safetensors(path)
    if start.startswith(b"PK\x03\x04"):
        if _is_npz(path):
            return "NumPy, npz", _read_npz(path)
        return "torch.save, zip", unpickle(path, is_zip=True)
    if start.startswith(LEGACY):
        return "torch.save before 1.6", unpickle(path, is_zip=False)
    if start.startswith(b"\x80"):
        return "pickle", unpickle_plain(path)
    raise CheckpointError(f"{path}: {EXPECTED}, found {_describe(path, start)}")


def _read_parts(path: Path) -> tuple[str, dict[str, object]]:
    """Return the tensors of a file in several parts, by what its `*.index.json` lists."""
    try:
        parts = read_json(path)["weight_map"]
        files: dict[str, set[str]] = {name: set() for name in sorted(set(map(str, parts.values())))}
        for tensor, name in parts.items():
            files[str(name)].add(tensor)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: expected the index of a file in several parts, with a weight_map, found another "
            f"({error_line(error)}); copy it again"
        ) from error
    tensors: dict[str, object] = {}
    for name, names in files.items():
        if Path(name).name != name or name.endswith(PARTS[1:]):
            raise CheckpointError(f"{path}: expected names of files next to it, found {name!r}; copy it again")
        loaded = _read(path.with_name(name))[1]
        part: dict[str, object] = loaded if isinstance(loaded, dict) else {}
        if missing := names - part.keys():
            raise CheckpointError(
                f"{path.with_name(name)}: expected {min(missing)!r} in it, found no such; copy it again"
            )
        tensors |= {tensor: part[tensor] for tensor in names}
    return f"{len(files)} parts", dict(sorted(tensors.items()))


def _is_npz(path: Path) -> bool:
    """Return whether a zip archive is one of NumPy arrays.

    Raises:
        CheckpointError: It is neither that nor written by torch.save.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):  # a name that is no text is a ValueError
        raise CheckpointError(
            f"{path}: {EXPECTED}, found a zip archive without its end: copy or download it again"
        ) from None
    for end, kind in ZIPS.items():
        if any(name == end or name.endswith(f"/{end}") for name in names):
            raise CheckpointError(f"{path}: {EXPECTED}, found {kind}")
    if names and all(name.endswith(".npy") for name in names):
        return True
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(
            f"{path}: {EXPECTED}, found a zip archive of {', '.join(names[:3]) or 'nothing'}: unpack it and give "
            "the file in it (of Monodepth2 the folder)"
        )
    return False


def _read_npz(path: Path) -> dict[str, object]:
    """Return the arrays of an `.npz` by name, the parts of a name (`Transformer/encoder_norm/scale`) joined by dots."""
    try:
        check_expansion(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name.replace("/", "."): from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # a damaged or hostile archive can fail in any way
        raise CheckpointError(
            f"{path}: expected NumPy arrays of numbers, found others ({error_line(error)}); copy it again, or save "
            "each array as numbers"
        ) from error


def check_expansion(path: Path) -> None:
    """Raise `ValueError` for an `.npz` whose arrays are more than `COMPRESSION` times larger than the file."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > COMPRESSION * path.stat().st_size:
        raise ValueError(f"{size} bytes in a file of {path.stat().st_size}")


def _check_plain(path: Path, tensors: dict[str, Tensor]) -> None:
    """Raise `CheckpointError` for tensors that are no dense numbers, need scales, or are much larger than the file."""
    if other := next((name for name, tensor in tensors.items() if not _is_dense(tensor)), None):
        raise CheckpointError(
            f"{path}: expected dense tensors of numbers, found {other!r} of another kind; save it dense"
        )
    if quantised := next((name for name, tensor in tensors.items() if _is_quantised(name, tensor)), None):
        raise CheckpointError(
            f"{path}: expected weights as they are used, found quantised ones ({quantised!r}); save the model in "
            "float16 or float32"
        )
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    largest = max(sizes, key=sizes.__getitem__)
    folder = path.name == INDEX or path.name.endswith(PARTS[1:])
    stored = sum(file.stat().st_size for file in path.parent.iterdir()) if folder else path.stat().st_size
    if sum(sizes.values()) > 8 * stored + MOST_EXPANDED:
        raise CheckpointError(
            f"{path}: expected tensors whose values are in the file, found {largest!r} of shape "
            f"{tuple(tensors[largest].shape)} in a file of {stored} bytes; save contiguous tensors"
        )


def _is_quantised(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor is a scale of quantised weights, or holds integers in place of weights."""
    return name.endswith(SCALED) or (name.endswith("weight") and tensor.ndim > 1 and not tensor.is_floating_point())


def _is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor is strided, in memory and not quantised."""
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta


def weights_file(path: str | Path) -> Path:
    """Return the file of weights at a path: the path itself, or the file in a folder of Monodepth2 or transformers.

    Raises:
        CheckpointError: The folder has no such file.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in WEIGHTS_FILES:
        if (path / name).is_file():
            return path / name
    for pattern in (PARTS, "*.safetensors", "*.bin", "*.pth", "*.npz"):
        if len(files := sorted(path.glob(pattern))) == 1:
            return files[0]
    names = ", ".join(sorted(entry.name for entry in path.iterdir())[:4]) or "nothing"
    raise CheckpointError(
        f"{path}: expected a file, a Monodepth2 folder with encoder.pth, or one of transformers with "
        f"model.safetensors, found a folder of {names}; give a file of weights"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` or `open_clip_config.json` of a folder, {} if there is no such JSON."""
    for name in ("config.json", "open_clip_config.json"):
        try:
            config = read_json(folder / name)
        except (OSError, ValueError):
            continue
        if isinstance(config, dict):
            return config
    return {}


def _config_values(config: dict[str, Any]) -> dict[str, Value]:
    """Return the values of a `config.json` by dotted name."""
    return {f"config.json.{key}": tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def _describe(path: Path, start: bytes) -> str:
    """Return what a file with these first bytes is, for a message."""
    for signature, name in SIGNATURES.items():
        if start.startswith(signature):
            return name
    if not start:
        return "an empty file: copy or download it again"
    if path.suffix == ".onnx" or (start[:1] == b"\x08" and b"pytorch" in start[:40]):
        return f"an ONNX model{FOREIGN}"
    if path.suffix in (".msgpack", ".pb", ".tflite") or start[4:8] == b"TFL3":
        return f"a file of JAX or TensorFlow{FOREIGN}"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it, or load and save it again with torch 1.6 or later"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page: the download went wrong, get the file itself"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "a text file: give the file of weights"
    return "other data: it may be damaged, copy or download it again"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            shared: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a whole safetensors file, found a damaged one ({error_line(error)}); "
            "copy or download it again"
        ) from error
    # safetensors.torch.save_model stores one of several names of a tensor, and the others in the metadata
    return tensors | {
        name: tensors[other] for name, other in shared.items() if name not in tensors and other in tensors
    }


def _walk(
    tree: dict[Any, Any], front: tuple[str, ...] = (), depth: int = 8
) -> Iterator[tuple[str, Tensor | Array | Value]]:
    """Yield (dotted name, tensor or plain value) of nested dicts, at most `depth` deep: a dict may contain itself."""
    for key, value in dict.items(tree):
        if not isinstance(key, str):
            continue
        name = (*front, *(part for part in key.split(".") if part not in ("module", *WRAPPERS)))
        if isinstance(value, Attributes):
            value = value.attributes
        if isinstance(value, dict) and depth:
            yield from _walk(value, name, depth - 1)
        elif isinstance(value, Tensor | Array | bool | int | float | str):
            yield ".".join(name), value
        elif isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
            yield ".".join(name), tuple(value)
