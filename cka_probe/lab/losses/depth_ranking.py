"""Confident depth ranking: which of two pixels is farther, where the pseudo-depth leaves no doubt.

For pairs of pixels A, B of an image with pseudo-depth z*, prediction D and l = +1 or -1,

    l = +1  where z*_A >= r z*_B,      -1  where z*_B >= r z*_A,      otherwise the pair does not count
    L = mean over the pairs that count of log(1 + exp(-l (D_A - D_B)))

with r = 1.15 (Sun et al., "SC-DepthV3", TPAMI 2023). Which pairs are drawn matters as much: a pixel where target and
sources contradict each other, of something that moves or hides, is ranked against one where they agree.

Computed as a softplus, which is exact for differences of 100 m where exp is infinite; where no pair counts, L is 0
and not 0 / 0; a pixel without pseudo-depth (0) never counts, not even against one that has it.

What it is blind to: only the difference of predictions counts, so their shift does not; their scale does, as L
falls towards 0 when a rightly ordered depth grows and is above 0 even at the truth. Of the pseudo-depth the scale
does not count. A shift, or any other increasing map, can never turn a pair round, but decides which pairs count:
the larger the shift, the fewer.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def pairs_to_rank(agreement: Tensor, unreliable: float = 0.2, random: float = 0.1) -> Tensor:
    """Draw pairs of pixels from torch's global generator (the trainer seeds it anew in each step and process).

    Each of the pixels that agree least is paired with one of the others, and random pixels with one another. Among
    pixels that agree equally chance decides, not their place.

    Args:
        agreement: (n, 1, H, W) float: how far target and sources agree at each pixel; only its order counts.
        unreliable: Share of an image's pixels that agree least.
        random: Share of its pixels that are paired whatever their agreement.

    Returns:
        (2, pairs) int64, A above B: places in the flattened (n, H, W). Both of a pair lie in the same image.
    """
    n, pixels = len(agreement), agreement[0].numel()
    few, some = round(unreliable * pixels), round(random * pixels)
    chance = _shuffled(n, pixels, agreement)
    # a stable sort of shuffled pixels: the first of many equals would be the top rows
    order = chance.gather(1, agreement.detach().flatten(1).gather(1, chance).argsort(dim=1, stable=True))
    doubtful, sure = order[:, :few], order[:, few:]
    if sure.shape[1]:
        partners = sure.gather(1, torch.randint(sure.shape[1], doubtful.shape, device=agreement.device))
    else:
        partners = doubtful.roll(1, 1)
    # shuffled pixels, each with the one before: random pairs, none with itself
    chosen = _shuffled(n, pixels, agreement)[:, :some]
    places = torch.stack([torch.cat([doubtful, chosen], 1), torch.cat([partners, chosen.roll(1, 1)], 1)])
    return (places + pixels * torch.arange(n, device=agreement.device)[:, None]).flatten(1)


def confident_depth_ranking(depth: Tensor, pseudo_depth: Tensor, pairs: Tensor, ratio: float = 1.15) -> Tensor:
    """Return the mean ranking loss over the pairs that the pseudo-depth orders with confidence.

    Args:
        depth: (n, 1, H, W) float, metres or any other unit; predicted.
        pseudo_depth: Same shape, up to scale and shift; 0 = none.
        pairs: (2, pairs) int64, places in the flattened (n, H, W).
        ratio: How many times farther one pixel has to be for a pair to count, above 1.

    Returns:
        A scalar, log 2 where all is predicted equally far; 0, with a graph, if no pair counts.
    """
    a, b = depth.flatten()[pairs]
    pseudo_a, pseudo_b = pseudo_depth.flatten()[pairs]
    measured = (pseudo_a > 0) & (pseudo_b > 0)
    # products, not quotients: nothing is divided by a pseudo-depth that is next to 0
    farther, nearer = measured & (pseudo_a >= ratio * pseudo_b), measured & (pseudo_b >= ratio * pseudo_a)
    counts = farther | nearer
    ordered = torch.where(farther, a - b, b - a)
    return torch.where(counts, softplus(-ordered), 0.0).sum() / counts.sum().clamp(min=1)


def _shuffled(n: int, pixels: int, like: Tensor) -> Tensor:
    """Return the numbers of the pixels in random order, (n, pixels) int64."""
    return torch.rand(n, pixels, device=like.device).argsort(1)
