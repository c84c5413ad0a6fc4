"""Stochastic depth: in training, a residual branch is now and then left out of an image's way through an encoder.

    y = x + b f(x) / (1 - p),    b = 1 with probability 1 - p, else 0, drawn per image and branch

p rises linearly from 0 at the first block to the rate at the last (Huang et al., "Deep Networks with Stochastic
Depth", ECCV 2016). Nothing of it is a weight, and in evaluation every branch is taken; a stage asks for it, and the
next one, which is read from a checkpoint, does not have it unless it asks too.
"""

from timm.layers import DropPath
from torch import nn

from cka_probe.errors import RecipeError

PLACES = (("drop_path1", "drop_path2"), ("drop_path",))
"""Where timm's blocks have a place for it: those of Swin-v2 after each of two branches, those of ResNet after one."""


def drop_paths(model: nn.Module, rate: float) -> None:
    """Let an encoder leave branches out while it trains; at rate 0 nothing is touched.

    Args:
        model: A Swin-v2 or ResNet of timm.
        rate: Probability at the last block, in [0, 1).

    Raises:
        RecipeError: The encoder's blocks have no place for it.
    """
    if rate == 0:
        return
    blocks = [(block, places) for block in model.modules() for places in PLACES if hasattr(block, places[-1])]
    if not blocks:
        raise RecipeError(
            f"drop_path: expected an encoder of blocks that it can leave out, found {type(model).__name__}; set "
            "drop_path=0, or train a Swin or a ResNet"
        )
    for number, (block, places) in enumerate(blocks):
        for place in places:
            setattr(block, place, DropPath(rate * number / max(len(blocks) - 1, 1)))
