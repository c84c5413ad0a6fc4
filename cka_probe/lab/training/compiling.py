"""`torch.compile` for the encoder of a stage: each of its blocks is compiled, in place.

Blocks are alike, so that one compilation serves several, and no name in a state dict changes: a stage may be resumed
with or without it.
"""

import torch
from torch import nn

from cka_probe.errors import RecipeError
from cka_probe.models.devices import pick_device

BACKEND = "inductor"

COMPILATIONS = 8
"""Most compilations for a block on average: in training and evaluation, and for batches of other sizes. Blocks that
differ in the rate of stochastic depth share none."""


def compile_blocks(model: nn.Module) -> None:
    """Let a model compile its blocks when each first runs.

    Raises:
        RecipeError: It has no blocks.
    """
    blocks = innermost_blocks(model)
    if not blocks:
        raise RecipeError(
            f"compile: expected an encoder of blocks, found {type(model).__name__}; set compile=false, or train a "
            "transformer or a ResNet"
        )
    limit = COMPILATIONS * len(blocks)
    torch._dynamo.config.recompile_limit = max(limit, torch._dynamo.config.recompile_limit)
    for block in blocks:
        block.compile(backend=BACKEND)


def innermost_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the modules in lists of a model that consist of several layers and contain no other such module.

    >>> pair = lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> len(innermost_blocks(nn.Sequential(nn.Linear(2, 2), nn.ModuleList([pair(), pair()]))))
    2
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList | nn.Sequential)]
    parts = dict.fromkeys(part for module in lists for part in module.children() if any(part.children()))
    return [part for part in parts if not any(other in parts for other in part.modules() if other is not part)]


def check_compiler(device: str) -> None:
    """Check that a function can be compiled for a device.

    Raises:
        RecipeError: It cannot: a C++ compiler is missing, or for a GPU Triton.
    """
    target = pick_device(device)
    try:
        torch.compile(lambda values: values.sin() + 1, backend=BACKEND)(torch.zeros(8, device=target))
    except Exception as error:  # of the compiler, in any way
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(
            f"compile: expected torch.compile to work on {target}, found: {first}; install a C++ compiler (for a GPU "
            "also Triton), or set compile=false"
        ) from error
