"""Monodepth2's own decoder, `depth.pth` beside `encoder.pth`, under the names of our heads.

The original keeps its layers in one list without names: two convolutions for each of five strides, coarse to fine,
then one output for each of four scales, fine to coarse. With i = 4 .. 0 for stride 2^(i + 1) = 32 .. 2,

| in the file | here |
|---|---|
| `decoder.{2 (4 - i)}.conv.conv.*` | `decoder.narrowing.{2^(i + 1)}.*` |
| `decoder.{2 (4 - i) + 1}.conv.conv.*` | `decoder.joining.{2^(i + 1)}.*` |
| `decoder.{10 + s}.conv.*` | `to_disparity.{2^s}.*` |

Both compute the same: 3 x 3 convolutions that mirror at the border, ELU, the coarser features first where two are
joined. So what was published goes on here, in `monodepth`, `lidar` and whatever takes over a `decoder.`.

Godard, Mac Aodha, Firman & Brostow, "Digging into Self-Supervised Monocular Depth Estimation", ICCV 2019.
"""

from pathlib import Path

from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.lab.tasks.skip_decoder import SCALES, WIDTHS
from cka_probe.models.checkpoints.reading import read_contents

DEPTH_FILE = "depth.pth"


def _names() -> dict[str, str]:
    """Return our name of every layer by the file's."""
    names = {}
    for place, stride in enumerate(WIDTHS):
        names[f"decoder.{2 * place}.conv.conv"] = f"decoder.narrowing.{stride}"
        names[f"decoder.{2 * place + 1}.conv.conv"] = f"decoder.joining.{stride}"
    for place, stride in enumerate(SCALES, start=2 * len(WIDTHS)):
        names[f"decoder.{place}.conv"] = f"to_disparity.{stride}"
    return names


NAMES = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in _names().items() for part in ("weight", "bias")}
"""Our name of every tensor by the file's: 28 of them."""


def read_monodepth2_decoder(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a Monodepth2 decoder under the names of `DisparityHead`, float32.

    Args:
        path: `depth.pth`, or the folder it lies in.

    Returns:
        Names beginning with `decoder.` and `to_disparity.`; which widths the encoder's maps must have, the shapes
        of `decoder.` say.

    Raises:
        CheckpointError: It cannot be read, or holds other tensors.
    """
    file = Path(path) / DEPTH_FILE if Path(path).is_dir() else Path(path)
    tensors = read_contents(file).tensors
    if tensors.keys() != NAMES.keys():
        missing, more = (sorted(a - b) for a, b in ((NAMES.keys(), tensors.keys()), (tensors.keys(), NAMES.keys())))
        found = [
            f"{len(names)} {what}, the first is {names[0]}"
            for names, what in ((missing, "missing"), (more, "more"))
            if names
        ]
        raise CheckpointError(
            f"{file}: expected the {len(NAMES)} tensors of Monodepth2's depth decoder, found {'; '.join(found)}; give "
            "the folder as it was published, or encoder.pth alone"
        )
    return {NAMES[name]: tensor.float() for name, tensor in tensors.items()}
