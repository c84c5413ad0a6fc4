"""Input size and windows of a Swin-v2: from the buffers in a file, the settings of its run, or the name in timm."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from cka_probe.errors import CheckpointError

BUFFERS = ("relative_coords_table", "relative_position_index", "attn_mask")
STAGES = range(4)
SAME = (0, 0, 0, 0)


@dataclass(frozen=True)
class Windows:
    """Input size and windows of a Swin-v2, as `build_swinv2` takes them.

    Attributes:
        size: Input height and width in pixels.
        window: Window in tokens, of the stages that are not smaller.
        pretrained: Per stage, the window that the coordinates of the position bias are divided by; zeros for its own.
        notes: Assumptions.
    """

    size: int
    window: int
    pretrained: tuple[int, ...] = SAME
    notes: tuple[str, ...] = ()

    @property
    def per_stage(self) -> tuple[int, ...]:
        """The window of each stage, no larger than the stage itself."""
        return tuple(min(self.window, self.size // (4 * 2**stage)) for stage in STAGES)

    def options(self) -> dict[str, Any]:
        """Return the options of `build_swinv2` that are not its defaults."""
        options: dict[str, Any] = {"size": self.size}
        if self.window != self.size // 16:  # else the window follows the size when that is changed
            options["window"] = self.window
        if any(self.pretrained):
            options["pretrained_windows"] = self.pretrained
        return options

    def resize(self, path: Path, size: int) -> "Windows":
        """Return the windows for another input size: they scale with it, the coordinates remain those of the training.

        Raises:
            CheckpointError: The windows would not tile the image.
        """
        if size == self.size:
            return Windows(self.size, self.window, self.pretrained)
        window, rest = divmod(size * self.window, self.size)
        if rest or size % 32 or not window:
            raise CheckpointError(
                f"{path}: expected an input size that is a multiple of {math.lcm(32, self.size // self.window)}, "
                f"found {size}; the window is {self.window} of {self.size} px"
            )
        pretrained = self.pretrained if any(self.pretrained) else self.per_stage
        note = f"resized to {size} px with window {window}; position bias in the coordinates of windows "
        return Windows(size, window, pretrained, (note + join(pretrained),))


def find_windows(path: Path, buffers: Mapping[str, Tensor], values: Mapping[str, object], default: int) -> Windows:
    """Return the size and windows that a file was trained with.

    Args:
        path: The file, for messages.
        buffers: The window buffers, by timm's names.
        values: Plain values of the file and of the `config.json` in its folder.
        default: Input size of the architecture, which is assumed if the file does not record one.

    Raises:
        CheckpointError: The buffers contradict each other.
    """
    sizes = _window_sizes(path, buffers)
    settings = _from_settings(values)
    if sizes is None:
        note = f"no window buffers: window {default // 16} assumed for {default} px; --arch NAME@SIZE for another"
        return settings or Windows(default, default // 16, notes=(note,))
    size = _size_of_masks(buffers, sizes)
    notes: tuple[str, ...] = ()
    if size is None:
        size = settings.size if settings else 32 * sizes[3]
        if settings is None and sizes[3] == sizes[0]:
            notes = (f"input of {size} px assumed from windows {join(sizes)}; --arch NAME@SIZE for another",)
    windows = Windows(size, sizes[0], _pretrained(path, buffers, sizes), notes)
    if windows.per_stage != sizes:
        raise CheckpointError(
            f"{path}: expected windows {join(windows.per_stage)} for {size} px, found {join(sizes)}; such a model "
            "cannot be built here"
        )
    return windows


def _window_sizes(path: Path, buffers: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """Return the window of each stage from the shapes (w^2, w^2) of the index buffers, `None` without them."""
    sizes: dict[str, set[int]] = {}
    for name, tensor in buffers.items():
        if name.endswith("relative_position_index"):
            sizes.setdefault(name.split(".")[1], set()).add(math.isqrt(tensor.shape[0]))
    if not sizes:
        return None
    if set(sizes) != set(map(str, STAGES)) or any(len(stage) > 1 for stage in sizes.values()):
        raise CheckpointError(
            f"{path}: expected one window per stage, found {', '.join(f'{k}: {sorted(v)}' for k, v in sizes.items())} "
            "in relative_position_index; remove these buffers and give --arch NAME@SIZE"
        )
    return tuple(sizes[str(stage)].pop() for stage in STAGES)


def _size_of_masks(buffers: Mapping[str, Tensor], sizes: tuple[int, ...]) -> int | None:
    """Return the input size from a mask of shifted windows, (number of windows, w^2, w^2), if there is one."""
    for stage in STAGES:
        mask = buffers.get(f"layers.{stage}.blocks.1.attn_mask")
        if mask is not None and mask.ndim == 3:
            return int(4 * 2**stage * sizes[stage] * math.isqrt(mask.shape[0]))
    return None


def _pretrained(path: Path, buffers: Mapping[str, Tensor], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the windows of an earlier training from the coordinate tables, zeros if they are the same."""
    pretrained = []
    for stage in STAGES:
        table = buffers.get(f"layers.{stage}.blocks.0.attn.relative_coords_table")
        if table is None or sizes[stage] < 2:
            pretrained.append(sizes[stage])
            continue
        exact = 1 + 8 * (sizes[stage] - 1) / (8 ** float(table.double().max()) - 1)
        if not math.isfinite(exact) or abs(exact - round(exact)) > 0.1:
            raise CheckpointError(
                f"{path}: expected relative_coords_table of Swin-v2, found values of no window in stage {stage} "
                f"({exact:.2f}); remove these buffers and give --arch NAME@SIZE"
            )
        pretrained.append(round(exact))
    return SAME if tuple(pretrained) == sizes else tuple(pretrained)


def _from_settings(values: Mapping[str, object]) -> Windows | None:
    """Return what the settings of a run record: yacs of Swin and SimMIM, or config.json of transformers."""
    names = ("DATA.IMG_SIZE", "SWINV2.WINDOW_SIZE", "SWINV2.PRETRAINED_WINDOW_SIZES")
    if values.get("config.json.model_type") == "swinv2":
        names = ("config.json.image_size", "config.json.window_size", "config.json.pretrained_window_sizes")
    size, window, pretrained = (
        next((value for name, value in values.items() if name.endswith(ending)), None) for ending in names
    )
    if not isinstance(size, int) or not isinstance(window, int) or size % 32 or min(size, window) < 1:
        return None
    if not isinstance(pretrained, tuple) or len(pretrained) != 4:
        pretrained = SAME
    return Windows(size, window, tuple(map(int, pretrained)))


def windows_of_timm(name: str) -> Windows | None:
    """Return the input size and windows of a Swin-v2 of timm, `None` for another model.

    >>> windows_of_timm("swinv2_base_window12to16_192to256").per_stage
    (16, 16, 16, 8)
    """
    with torch.device("meta"):
        model: Any = timm.create_model(name.split(".")[0], pretrained=False, num_classes=0)
    if not hasattr(model, "layers"):
        return None
    blocks = [stage.blocks[0] for stage in model.layers]
    pretrained = tuple(block.attn.pretrained_window_size[0] for block in blocks)
    windows = Windows(model.patch_embed.img_size[0], blocks[0].window_size[0], pretrained)
    return Windows(windows.size, windows.window) if pretrained == windows.per_stage else windows


def join(sizes: tuple[int, ...]) -> str:
    """Return the windows of all stages as text, "12, 12, 12, 6"."""
    return ", ".join(map(str, sizes))
