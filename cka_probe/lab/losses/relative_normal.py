"""Edge-aware relative normal loss: angles between surface normals on both sides of edges, and next to them.

For pairs of pixels A, B with normals n from the predicted depth and n* from the pseudo-depth,

    L = mean over pairs of | |n_A . n_B| - |n*_A . n*_B| |

(Sun et al., "SC-DepthV3", TPAMI 2023; Yin et al., "Learning to Recover 3D Scene Shape", CVPR 2021; the pairs of
Xian et al., "Structure-Guided Ranking Loss", CVPR 2020.) Angles between normals do not depend on the orientation of
the scene, so the loss is weaker than normal matching. Pairs are drawn across edges of the image and of the
pseudo-normals, where the gradient exceeds a tenth of the largest in the image, but not next to edges of the
pseudo-depth, because an angle across a jump in depth does not describe a surface. (Those edges have the same
definition, so in an image without any jump the steepest slopes count as jumps.)

Four pixels a, b | c, d lie on the line through an edge pixel along its gradient, two on each side, at random
distances of 3 to 19 pixels; the pairs are ab, bc, cd. Differences from the original code: edges are those of the grey
image, not of its red channel, so a blue edge counts; the direction keeps its sign, whereas |cos| and |sin| place half
of all diagonals along the edge instead of across it; every edge pixel is used once, which has the same mean as drawing
with replacement and less noise; and pixels next to a hole are no edges.

The loss is invariant to the scale of either depth, and to the brightness and contrast of the image. A shift of the
pseudo-depth changes its angles, as in normal matching.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from cka_probe.lab.geometry.normals import sobel
from cka_probe.lab.losses.affine import known_normals

DISTANCES = (3, 19)
"""Range of distances from the edge, inclusive, in pixels of an image whose shorter side has 256."""
BORDER = 5
"""Width of the border, in the same pixels, in which a change of pseudo-normals is not an edge."""
THRESHOLD = 0.1
"""Share of the image's strongest gradient above which a pixel is an edge."""


def edges_of(maps: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the edges of a map, and the direction in which it changes there.

    Args:
        maps: (n, C, H, W) float, any unit: edges are relative to the image's strongest, over all channels.
        known: (n, 1, H, W) bool; pixels next to an unknown one are neither edges nor the strongest gradient.

    Returns:
        Edges (n, 1, H, W) bool, all False for a constant image; direction (n, 2, H, W), right and down, unit length,
        of the largest change over all channels (the axis of the structure tensor; for one channel its gradient, up
        to sign).
    """
    down, across = sobel(maps)
    square = (across**2 + down**2).sum(1, keepdim=True)
    if known is not None:
        square = torch.where(_next_to(~known), 0.0, square)
    edges = square > THRESHOLD**2 * square.amax((2, 3), keepdim=True)
    twice = torch.atan2(2 * (across * down).sum(1, keepdim=True), (across**2 - down**2).sum(1, keepdim=True))
    return edges, torch.cat([(twice / 2).cos(), (twice / 2).sin()], 1)


def pairs_across_edges(image: Tensor, pseudo_depth: Tensor, pseudo_normals: Tensor, scale: float = 1.0) -> Tensor:
    """Draw pairs on lines across edges with torch's global generator, which the trainer seeds in each step.

    Args:
        image: (n, 3, H, W) float, RGB.
        pseudo_depth: (n, 1, H, W) float, up to scale and shift; 0 = none.
        pseudo_normals: (n, 3, H, W) float; (0, 0, 0) where not known.
        scale: Factor of `DISTANCES` and `BORDER`: the shorter side of the image over 256. Distances are at least 1
            pixel.

    Returns:
        (2, pairs) int64, A above B: indices into the flattened (n, H, W). The pixels of a pair lie in the same image;
        coordinates outside are clamped to its border.
    """
    near_jump = _next_to(edges_of(pseudo_depth, pseudo_depth > 0)[0])
    inner = torch.zeros_like(near_jump)
    border = max(1, round(BORDER * scale))
    inner[..., border:-border, border:-border] = True
    edges, direction = edges_of(image.mean(1, keepdim=True))
    turns, turning = edges_of(pseudo_normals, known_normals(pseudo_normals))
    near, far = (max(1, round(distance * scale)) for distance in DISTANCES)
    lines = [
        _lines(edges & ~near_jump, direction, near, far),
        _lines(turns & inner & ~near_jump, turning, near, far),
    ]
    points = torch.cat(lines, 1)
    return torch.stack([points[:3], points[1:]]).flatten(1)


def edge_aware_relative_normal(normals: Tensor, pseudo_normals: Tensor, pairs: Tensor) -> Tensor:
    """Return the mean difference of the cosines of angles over pairs whose normals are all known.

    Args:
        normals: (n, 3, H, W) float, unit length, (0, 0, 0) where not known; from the predicted depth.
        pseudo_normals: Same shape, from the pseudo-depth.
        pairs: (2, pairs) int64, indices into the flattened (n, H, W).

    Returns:
        A scalar without unit, 0 to 1; 0, with a graph, if no pair is known.
    """
    known = (known_normals(normals) & known_normals(pseudo_normals)).flatten()[pairs].all(0)
    (a, b), (pseudo_a, pseudo_b) = (maps.movedim(1, -1).reshape(-1, 3)[pairs] for maps in (normals, pseudo_normals))
    difference = ((a * b).sum(1).abs() - (pseudo_a * pseudo_b).sum(1).abs()).abs()
    return torch.where(known, difference, 0.0).sum() / known.sum().clamp(min=1)


def _lines(edges: Tensor, direction: Tensor, near: int, far: int) -> Tensor:
    """Return the pixels a, b, c, d of each edge pixel, (4, edge pixels) int64 indices."""
    height, width = edges.shape[-2:]
    image, _, row, column = edges.nonzero(as_tuple=True)
    right, down = direction[image, :, row, column].T
    side = torch.tensor([[-1], [-1], [1], [1]], device=edges.device)
    distance = side * torch.randint(near, far + 1, (4, len(row)), device=edges.device)
    rows = (row + (distance * down).round().long()).clamp(0, height - 1)
    columns = (column + (distance * right).round().long()).clamp(0, width - 1)
    return (image * height + rows) * width + columns


def _next_to(pixels: Tensor) -> Tensor:
    """Dilate a mask by one pixel, (n, 1, H, W) bool."""
    return max_pool2d(pixels.float(), 3, 1, 1) > 0
