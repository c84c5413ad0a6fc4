"""Read tensors and plain values from an untrusted file without executing anything in it.

Pickles are read by torch's restricted unpickler (`weights_only=True`) with a fixed list of further classes. Each of
these is replaced by an empty stand-in, so the file's classes are never imported, and `yacs` or `pytorch_lightning` need
not be installed. The reader is chosen by the first bytes and not by the suffix, because `.pth`, `.ckpt`, `.tar` and
`.bin` may be any format.
"""

import json
import re
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, serialization

from cka_probe.errors import CheckpointError
from cka_probe.files import is_safetensors

Value = bool | int | float | str | tuple[Any, ...]

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of a name that DistributedDataParallel, `torch.compile`, FSDP and activation checkpointing insert."""

NO_WEIGHTS = {"optimizer", "optimizers", "optimizer_states", "lr_scheduler", "lr_schedulers", "scaler", "amp", "loops"}
"""Top-level groups of a training run whose tensors are not weights."""

WEIGHTS_FILES = ("encoder.pth", "model.safetensors", "pytorch_model.bin")
"""The file of weights in a folder of Monodepth2 or transformers."""

EXPECTED = "expected weights (.safetensors, or a .pth/.pt/.ckpt/.tar/.bin of torch.save)"

SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"version https://git-lfs": "a git-lfs pointer: fetch the file itself with `git lfs pull`",
    b"%PDF": "a PDF",
}


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


_DICTS = (
    "yacs.config.CfgNode",
    "collections.defaultdict",
    "easydict.EasyDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_IGNORED = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"builtins.{name}" for name in ("dict", "list", "int", "float", "tuple")),  # of a defaultdict
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"{module}.{name}" for module in _NUMPY for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.dtypes.{name}DType" for name in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool", "Str")),
    *(f"datetime.{name}" for name in ("datetime", "date", "timedelta")),
    "torch.torch_version.TorchVersion",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
)
STAND_INS: list[Any] = [*((PlainDict, name) for name in _DICTS), *((Ignored, name) for name in _IGNORED)]
"""Classes that a pickle may name in addition to torch's own list, with what replaces them."""

_SAFE_GLOBALS_LOCK = threading.Lock()


@dataclass(frozen=True)
class Contents:
    """The contents of a file.

    Attributes:
        path: The file.
        container: Its format, in words.
        tensors: By dotted name, with the names of enclosing dicts and without `WRAPPERS`.
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

    Raises:
        CheckpointError: It is missing or damaged, is not a file of weights, or needs a class that is not on the list.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(300)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: {EXPECTED}, found no such file; check the path") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {EXPECTED}, but it cannot be read: {error.strerror}") from error
    loaded: object
    if is_safetensors(path):
        container, loaded = "safetensors", _read_safetensors(path)
    elif start.startswith(b"PK\x03\x04"):
        _check_zip(path)
        container, loaded = "torch.save, zip", _unpickle(path, is_zip=True)
    elif start.startswith(b"\x80"):
        container, loaded = "torch.save before 1.6", _unpickle(path, is_zip=False)
    else:
        raise CheckpointError(f"{path}: {EXPECTED}, found {_describe(start)}")
    tensors: dict[str, Tensor] = {}
    values: dict[str, Value] = {}
    if isinstance(loaded, dict):
        for name, value in _walk({key: value for key, value in loaded.items() if key not in NO_WEIGHTS}):
            if isinstance(value, Tensor) and name in tensors:
                raise CheckpointError(f"{path}: expected one tensor of each name, found {name!r} twice; save it again")
            if isinstance(value, Tensor):
                tensors[name] = value
            else:
                values[name] = value
    if not tensors:
        kind = f"a {type(loaded).__name__}"
        if isinstance(loaded, dict):
            kind = f"a dict of {', '.join(map(str, list(loaded)[:4])) or 'nothing'} without weights"
        raise CheckpointError(f"{path}: expected a dict of named tensors, found {kind}; save the model's state_dict()")
    config = read_config(path.parent)
    return Contents(path, container, tensors, values | _config_values(config), config)


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
    names = ", ".join(sorted(entry.name for entry in path.iterdir())[:4]) or "nothing"
    sharded = any(path.glob("*.index.json"))
    raise CheckpointError(
        f"{path}: expected a file, a Monodepth2 folder with encoder.pth, or one of transformers with "
        f"model.safetensors, found a folder of {names}; "
        + ("save it in one part, with max_shard_size='50GB'" if sharded else "give a file of weights")
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` or `open_clip_config.json` of a folder, {} if there is no such JSON."""
    for name in ("config.json", "open_clip_config.json"):
        try:
            config = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict):
            return config
    return {}


def _config_values(config: dict[str, Any]) -> dict[str, Value]:
    """Return the values of a `config.json` by dotted name."""
    return {f"config.json.{key}": tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def _describe(start: bytes) -> str:
    """Return what a file with these first bytes is, for a message."""
    for signature, name in SIGNATURES.items():
        if start.startswith(signature):
            return name
    if not start:
        return "an empty file: copy or download it again"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it, or load and save it again with torch 1.6 or later"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page: the download went wrong, get the file itself"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "a text file: give the file of weights"
    return "other data: it may be damaged, copy or download it again"


def _check_zip(path: Path) -> None:
    """Raise `CheckpointError` for a zip that torch.save did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        raise CheckpointError(
            f"{path}: {EXPECTED}, found a zip archive without its end: copy or download it again"
        ) from None
    if any(name.endswith("constants.pkl") for name in names):
        raise CheckpointError(f"{path}: {EXPECTED}, found TorchScript, which holds code: save its state_dict() instead")
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(
            f"{path}: {EXPECTED}, found a zip archive of {', '.join(names[:3]) or 'nothing'}: unpack it and give "
            "the file in it (of Monodepth2 the folder)"
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a whole safetensors file, found a damaged one ({_line(error)}); "
            "copy or download it again"
        ) from error


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
            yield
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(before)


def _unpickle(path: Path, *, is_zip: bool) -> object:
    """Return what torch.save wrote, by the restricted unpickler."""
    try:
        with _only_stand_ins(), open(path, "rb") as file:
            # mmap does not read an optimiser's moments, two thirds of many files
            by_path = is_zip and path.suffix != ".safetensors"  # torch trusts that suffix
            return torch.load(str(path) if by_path else file, map_location="cpu", weights_only=True, mmap=by_path)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        if forbidden := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path}: expected tensors and plain values, found a pickle that asks for {forbidden[1]!r}, which was "
                "not run; save the model's state_dict() where the file was made"
            ) from None
        raise CheckpointError(
            f"{path}: {EXPECTED}, found a pickle that is damaged or holds more than weights ({_line(error)}); "
            "copy it again, or save the model's state_dict() where it was made"
        ) from error


def _line(error: Exception) -> str:
    """Return the last informative line of an error's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "docs/stable" not in line]
    return f"{type(error).__name__}: {lines[-1][:100]}" if lines else type(error).__name__


def _walk(tree: dict[Any, Any], front: tuple[str, ...] = (), depth: int = 8) -> Iterator[tuple[str, Tensor | Value]]:
    """Yield (dotted name, tensor or plain value) of nested dicts, at most `depth` deep: a dict may contain itself."""
    for key, value in tree.items():
        if not isinstance(key, str):
            continue
        name = (*front, *(part for part in key.split(".") if part not in WRAPPERS))
        if isinstance(value, dict) and depth:
            yield from _walk(value, name, depth - 1)
        elif isinstance(value, Tensor | bool | int | float | str):
            yield ".".join(name), value
        elif isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
            yield ".".join(name), tuple(value)
