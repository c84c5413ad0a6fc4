"""Read a checkpoint of `torch.distributed.checkpoint`, as FSDP saves it, without running anything in it.

It is a folder with an index, `.metadata`, and files of shards, `__0_0.distcp`. The index is a pickle with the shape of
each tensor, and for each of its shards the offset in the tensor and the file with its bytes, which `torch.save` wrote.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.models.checkpoints.pickles import Attributes, PlainUnpickler, error_line, only_stand_ins

INDEX = ".metadata"

RECORDS = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
"""Modules whose classes are read as their attributes."""


class _IndexUnpickler(PlainUnpickler):
    """An unpickler that returns the attributes of the index's classes."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return a new class, which a file may change, or a function."""
        if module in RECORDS:
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
        return {name: _joined(sizes[name], parts) for name, parts in shards.items()}
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
    with only_stand_ins():
        tensor: Tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ValueError(f"a shard of shape {tuple(tensor.shape)} that is larger than its bytes")
    return tensor


def _joined(size: tuple[int, ...], shards: list[tuple[tuple[int, ...], Tensor]]) -> Tensor:
    """Return a tensor of a size from its shards and their offsets."""
    if sum(shard.numel() for _, shard in shards) != torch.Size(size).numel():
        raise ValueError(f"shards that are not the whole of a tensor of shape {size}")
    joined = torch.empty(size, dtype=shards[0][1].dtype)
    for offset, shard in shards:
        ranges = tuple(slice(start, start + length) for start, length in zip(offset, shard.shape, strict=True))
        joined[ranges].copy_(shard)
    return joined
