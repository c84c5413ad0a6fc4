"""The input size and windows that a Swin-v2 was trained with, told from its file.

No learnt tensor of Swin-v2 depends on the window: the position bias is a function of coordinates. A wrong window
therefore loads without a word and gives other activations. Where a file holds the original's buffers they say it
all: `relative_position_index` is (w^2, w^2) per stage, `attn_mask` has one row per window of the image, and the
last entry of `relative_coords_table` is log2(1 + 8 (w - 1) / (p - 1)) / 3, with p the window of an earlier
training. Otherwise the run's own settings are asked, and last an assumption is made and noted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from cka_probe.errors import CheckpointError

BUFFERS = ("relative_coords_table", "relative_position_index", "attn_mask")
STAGES = range(4)
SAME = (0, 0, 0, 0)


@dataclass(frozen=True)
class Grid:
    """Input size and windows of a Swin-v2, as its `build` takes them.

    Attributes:
        size: Input height and width, pixels.
        window: In tokens, before stages that are smaller shrink it.
        pretrained_windows: Per stage, that the bias's coordinates are divided by; zeros mean the own ones.
        notes: What was assumed.
    """

    size: int
    window: int
    pretrained_windows: tuple[int, ...] = SAME
    notes: tuple[str, ...] = ()

    @property
    def windows(self) -> tuple[int, ...]:
        """The window of each stage: no larger than the stage itself."""
        return tuple(min(self.window, self.size // (4 * 2**stage)) for stage in STAGES)


def grid_of(path: Path, buffers: Mapping[str, Tensor], values: Mapping[str, object], default: int) -> Grid:
    """Return the grid a file was trained with.

    Args:
        path: For messages.
        buffers: The window buffers, under timm's names.
        values: Plain values of the file and of a `config.json` beside it.
        default: Input size of the architecture, if the file says nothing.
    """
    windows = windows_in(path, buffers)
    told = _grid_told(values)
    if windows is None:
        assumed = f"no window buffers: window {default // 16} assumed for {default} px; --arch NAME@SIZE for another"
        return told or Grid(default, default // 16, notes=(assumed,))
    size, notes = _size_in(buffers, windows), ()
    if size is None:
        size = told.size if told else 32 * windows[3]
        if told is None and windows[3] == windows[0]:
            notes = (f"input of {size} px assumed from windows {_by(windows)}; --arch NAME@SIZE for another",)
    grid = Grid(size, windows[0], _pretrained_in(path, buffers, windows), notes)
    if grid.windows != windows:
        raise CheckpointError(
            f"{path}: expected windows {_by(grid.windows)} for {size} px, found {_by(windows)}; such a model cannot "
            "be built here"
        )
    return grid


def at_size(path: Path, grid: Grid, size: int) -> Grid:
    """Return the grid at another input size: windows grow with it, coordinates stay those of the training.

    Raises:
        CheckpointError: The windows would not tile the image.
    """
    if size == grid.size:
        return replace(grid, notes=())
    window, rest = divmod(size * grid.window, grid.size)
    if rest or size % 32 or not window:
        raise CheckpointError(
            f"{path}: expected an input size that is a multiple of {math.lcm(32, grid.size // grid.window)}, "
            f"found {size}; the window is {grid.window} of {grid.size} px"
        )
    pretrained = grid.pretrained_windows if any(grid.pretrained_windows) else grid.windows
    note = f"taken to {size} px with window {window}; position bias in the coordinates of windows {_by(pretrained)}"
    return Grid(size, window, pretrained, (note,))


def windows_in(path: Path, buffers: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """Return the window of each stage from the shapes (w^2, w^2) of the index buffers, `None` without them."""
    found: dict[str, set[int]] = {}
    for name, tensor in buffers.items():
        if name.endswith("relative_position_index"):
            found.setdefault(name.split(".")[1], set()).add(math.isqrt(tensor.shape[0]))
    if not found:
        return None
    if set(found) != set(map(str, STAGES)) or any(len(stage) > 1 for stage in found.values()):
        raise CheckpointError(
            f"{path}: expected one window per stage, found {', '.join(f'{k}: {sorted(v)}' for k, v in found.items())} "
            "in relative_position_index; remove these buffers and give --arch NAME@SIZE"
        )
    return tuple(found[str(stage)].pop() for stage in STAGES)


def _size_in(buffers: Mapping[str, Tensor], windows: tuple[int, ...]) -> int | None:
    """Return the input size from a mask of shifted windows, (number of windows, w^2, w^2), if there is one."""
    for stage in STAGES:
        mask = buffers.get(f"layers.{stage}.blocks.1.attn_mask")
        if mask is not None and mask.ndim == 3:
            return 4 * 2**stage * windows[stage] * math.isqrt(mask.shape[0])
    return None


def _pretrained_in(path: Path, buffers: Mapping[str, Tensor], windows: tuple[int, ...]) -> tuple[int, ...]:
    """Return the windows of an earlier training from the coordinate tables, zeros where they are the same."""
    pretrained = []
    for stage in STAGES:
        table = buffers.get(f"layers.{stage}.blocks.0.attn.relative_coords_table")
        if table is None or windows[stage] < 2:
            pretrained.append(windows[stage])
            continue
        exact = 1 + 8 * (windows[stage] - 1) / (8 ** float(table.double().max()) - 1)
        if not math.isfinite(exact) or abs(exact - round(exact)) > 0.1:
            raise CheckpointError(
                f"{path}: expected relative_coords_table of Swin-v2, found values of no window in stage {stage} "
                f"({exact:.2f}); remove these buffers and give --arch NAME@SIZE"
            )
        pretrained.append(round(exact))
    return SAME if tuple(pretrained) == windows else tuple(pretrained)


def _grid_told(values: Mapping[str, object]) -> Grid | None:
    """Return what the settings of a run say: yacs of Swin and SimMIM, or config.json of transformers."""

    def ask(ending: str) -> object:
        return next((value for name, value in values.items() if name.endswith(ending)), None)

    if values.get("beside.model_type") == "swinv2":
        names = ("beside.image_size", "beside.window_size", "beside.pretrained_window_sizes")
    else:
        names = ("DATA.IMG_SIZE", "SWINV2.WINDOW_SIZE", "SWINV2.PRETRAINED_WINDOW_SIZES")
    size, window, earlier = map(ask, names)
    if not isinstance(size, int) or not isinstance(window, int) or size % 32 or min(size, window) < 1:
        return None
    earlier = earlier if isinstance(earlier, tuple) else SAME
    return Grid(size, window, tuple(map(int, earlier)) if len(earlier) == 4 else SAME)


def _by(windows: tuple[int, ...]) -> str:
    return ", ".join(map(str, windows))
