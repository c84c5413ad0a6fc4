"""Edge-aware relative normal: how sharply surfaces turn at edges, and how little beside them.

For pairs of pixels A, B with normals n of the predicted depth and n* of the pseudo-depth,

    L = mean over pairs of | |n_A . n_B| - |n*_A . n*_B| |

(Sun et al., "SC-DepthV3", TPAMI 2023; Yin et al., "Learning to Recover 3D Scene Shape", CVPR 2021; the pairs of
Xian et al., "Structure-Guided Ranking Loss", CVPR 2020.) Angles between normals do not depend on how the scene is
turned: it asks less than normal matching, and asks it where the eye looks. Pairs are drawn across edges of the
image and edges of the pseudo-normals, each where the gradient is above a tenth of the image's largest, but not
next to edges of the pseudo-depth: across a jump in depth the angle says nothing about a surface. (Those are found
the same way, so in an image without any jump the steepest slopes are taken for one, and their edges left out.)

On the line through an edge pixel along its gradient lie four pixels a, b | c, d, two on each side, at distances
drawn from 3 to 19 pixels each; the pairs are ab, bc, cd. Unlike the original code: edges come from the grey
image, not from its red alone, so that a blue edge is one too; the line keeps its sign, where |cos| and |sin|
would lay half of all diagonals along the edge instead of across; every edge pixel serves once, where drawing as
many with replacement has the same mean and more noise; and nothing next to a hole is an edge.

What it is blind to: the scale of either depth, as all normals are; the brightness and contrast of the image. A
shift of the pseudo-depth changes its angles, as it does in normal matching.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from cka_probe.lab.losses.affine import known_normals

DISTANCES = (3, 19)
"""Least and greatest distance from the edge, both included, in pixels of an image whose shorter side has 256."""
BORDER = 5
"""Pixels, of the same image, at its border where a change of pseudo-normals is not an edge."""
THRESHOLD = 0.1


def edges_of(maps: Tensor, known: Tensor | None = None, threshold: float = THRESHOLD) -> tuple[Tensor, Tensor]:
    """Return the edges of a field, and which way it changes there.

    Args:
        maps: (n, C, H, W) float, any unit: edges are relative to the image's strongest, over all channels.
        known: (n, 1, H, W) bool; no pixel next to one that is not known is an edge, or the strongest.
        threshold: Share of the strongest gradient, 0 to 1.

    Returns:
        edges (n, 1, H, W) bool, False all over a constant image; direction (n, 2, H, W), right and down, unit
        length, along which the channels together change most (the axis of the structure tensor; for one channel its
        gradient, up to sign).
    """
    across, down = _change(maps, -1, -2), _change(maps, -2, -1)
    square = (across**2 + down**2).sum(1, keepdim=True)
    if known is not None:
        square = torch.where(_next_to(~known), 0.0, square)
    edges = square > threshold**2 * square.amax((2, 3), keepdim=True)
    twice = torch.atan2(2 * (across * down).sum(1, keepdim=True), (across**2 - down**2).sum(1, keepdim=True))
    return edges, torch.cat([(twice / 2).cos(), (twice / 2).sin()], 1)


def pairs_across_edges(image: Tensor, pseudo_depth: Tensor, pseudo_normals: Tensor, scale: float = 1.0) -> Tensor:
    """Draw pairs along lines across edges, from torch's global generator (the trainer seeds it in each step).

    Args:
        image: (n, 3, H, W) float, RGB.
        pseudo_depth: (n, 1, H, W) float, up to scale and shift; 0 = none.
        pseudo_normals: (n, 3, H, W) float; (0, 0, 0) where not known.
        scale: Of `DISTANCES` and `BORDER`: the image's shorter side over 256. Distances stay 1 pixel or more.

    Returns:
        (2, pairs) int64, A above B: places in the flattened (n, H, W). Both of a pair lie in the same image; what
        would lie outside is moved to its border.
    """
    beside_jump = _next_to(edges_of(pseudo_depth, pseudo_depth > 0)[0])
    away = torch.zeros_like(beside_jump)
    border = max(1, round(BORDER * scale))
    away[..., border:-border, border:-border] = True
    edges, direction = edges_of(image.mean(1, keepdim=True))
    turns, turning = edges_of(pseudo_normals, known_normals(pseudo_normals))
    near, far = (max(1, round(distance * scale)) for distance in DISTANCES)
    lines = [
        _lines(edges & ~beside_jump, direction, near, far),
        _lines(turns & away & ~beside_jump, turning, near, far),
    ]
    points = torch.cat(lines, 1)
    return torch.stack([points[:3], points[1:]]).flatten(1)


def edge_aware_relative_normal(normals: Tensor, pseudo_normals: Tensor, pairs: Tensor) -> Tensor:
    """Return the mean difference of angles, as cosines, over pairs whose normals are all known.

    Args:
        normals: (n, 3, H, W) float, unit length, (0, 0, 0) where not known; of the predicted depth.
        pseudo_normals: Same shape, of the pseudo-depth.
        pairs: (2, pairs) int64, places in the flattened (n, H, W).

    Returns:
        A scalar without unit, 0 to 1; 0, with a graph, if no pair is known.
    """
    known = (known_normals(normals) & known_normals(pseudo_normals)).flatten()[pairs].all(0)
    (a, b), (pseudo_a, pseudo_b) = (maps.movedim(1, -1).reshape(-1, 3)[pairs] for maps in (normals, pseudo_normals))
    difference = ((a * b).sum(1).abs() - (pseudo_a * pseudo_b).sum(1).abs()).abs()
    return torch.where(known, difference, 0.0).sum() / known.sum().clamp(min=1)


def _lines(edges: Tensor, direction: Tensor, near: int, far: int) -> Tensor:
    """Return the pixels a, b, c, d of each edge pixel, (4, edge pixels) int64 places."""
    height, width = edges.shape[-2:]
    image, _, row, column = edges.nonzero(as_tuple=True)
    right, down = direction[image, :, row, column].T
    side = torch.tensor([[-1], [-1], [1], [1]], device=edges.device)
    distance = side * torch.randint(near, far + 1, (4, len(row)), device=edges.device)
    rows = (row + (distance * down).round().long()).clamp(0, height - 1)
    columns = (column + (distance * right).round().long()).clamp(0, width - 1)
    return (image * height + rows) * width + columns


def _next_to(pixels: Tensor) -> Tensor:
    """Return the 3 x 3 surroundings of pixels, (n, 1, H, W) bool."""
    return max_pool2d(pixels.float(), 3, 1, 1) > 0


def _change(maps: Tensor, along: int, other: int) -> Tensor:
    """Return Sobel's difference along one axis, (n, C, H, W); by sums of slices, for a convolution may be TF32."""
    maps = pad(maps, (1, 1, 1, 1), mode="replicate")
    size, rest = maps.shape[along] - 2, maps.shape[other] - 2
    change = maps.narrow(along, 2, size) - maps.narrow(along, 0, size)
    return change.narrow(other, 0, rest) + 2 * change.narrow(other, 1, rest) + change.narrow(other, 2, rest)
