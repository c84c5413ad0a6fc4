"""Confident depth ranking loss: the order of pairs of pixels that differ clearly in pseudo-depth.

For pairs of pixels A, B of an image with pseudo-depth z*, prediction D and l = +1 or -1,

    l = +1  where z*_A >= r z*_B,      -1  where z*_B >= r z*_A,      otherwise the pair does not count
    L = mean over the pairs that count of log(1 + exp(-l (D_A - D_B)))

with r = 1.15 (Sun et al., "SC-DepthV3", TPAMI 2023). Pixels at which target and sources disagree, because something
moves or is occluded, are ranked against pixels at which they agree.

L is computed as a softplus, which is exact for differences of 100 m, where exp overflows. If no pair counts, L is 0,
not 0 / 0. Pixels without pseudo-depth (0) never count.

L is invariant to a shift of the prediction but not to its scale: it decreases towards 0 as a correctly ordered depth
grows, and is positive even at the ground truth. It is invariant to the scale of the pseudo-depth. A shift of the
pseudo-depth, or any other increasing map, never reverses a pair but changes which pairs count: the larger the shift,
the fewer.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def pairs_to_rank(agreement: Tensor, unreliable: float = 0.2, random: float = 0.1) -> Tensor:
    """Draw pairs of pixels with torch's global generator, which the trainer seeds in each step and process.

    Each of the pixels with the least agreement is paired with one of the others, and random pixels with each other.
    Ties are broken at random, not by position.

    Args:
        agreement: (n, 1, H, W) float, agreement of target and sources at each pixel; only its order matters.
        unreliable: Share of the pixels of an image that counts as least in agreement.
        random: Share of its pixels that is paired regardless of agreement.

    Returns:
        (2, pairs) int64, A above B: indices into the flattened (n, H, W). The pixels of a pair lie in the same image.
    """
    n, pixels = len(agreement), agreement[0].numel()
    few, some = round(unreliable * pixels), round(random * pixels)
    chance = _shuffled(n, pixels, agreement)
    # a stable sort of shuffled pixels, since otherwise the top rows would come first among equals
    order = chance.gather(1, agreement.detach().flatten(1).gather(1, chance).argsort(dim=1, stable=True))
    doubtful, sure = order[:, :few], order[:, few:]
    if sure.shape[1]:
        partners = sure.gather(1, torch.randint(sure.shape[1], doubtful.shape, device=agreement.device))
    else:
        partners = doubtful.roll(1, 1)
    # each shuffled pixel with the previous one: random pairs, none with itself
    extra = _shuffled(n, pixels, agreement)[:, :some]
    places = torch.stack([torch.cat([doubtful, extra], 1), torch.cat([partners, extra.roll(1, 1)], 1)])
    return (places + pixels * torch.arange(n, device=agreement.device)[:, None]).flatten(1)


def confident_depth_ranking(depth: Tensor, pseudo_depth: Tensor, pairs: Tensor, ratio: float = 1.15) -> Tensor:
    """Return the mean ranking loss over the pairs that the pseudo-depth orders with confidence.

    Args:
        depth: (n, 1, H, W) float, metres or any other unit; predicted.
        pseudo_depth: Same shape, up to scale and shift; 0 = none.
        pairs: (2, pairs) int64, indices into the flattened (n, H, W).
        ratio: Minimum ratio of the pseudo-depths of a pair that counts, above 1.

    Returns:
        A scalar; log 2 if the prediction is constant; 0, with a graph, if no pair counts.
    """
    a, b = depth.flatten()[pairs]
    pseudo_a, pseudo_b = pseudo_depth.flatten()[pairs]
    measured = (pseudo_a > 0) & (pseudo_b > 0)
    # products, not quotients, because a pseudo-depth may be close to 0
    farther, nearer = measured & (pseudo_a >= ratio * pseudo_b), measured & (pseudo_b >= ratio * pseudo_a)
    counts = farther | nearer
    ordered = torch.where(farther, a - b, b - a)
    return torch.where(counts, softplus(-ordered), 0.0).sum() / counts.sum().clamp(min=1)


def _shuffled(n: int, pixels: int, like: Tensor) -> Tensor:
    """Return the numbers of the pixels in random order, (n, pixels) int64."""
    return torch.rand(n, pixels, device=like.device).argsort(1)
