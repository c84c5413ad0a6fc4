"""Where the words beside points go, so that none is over another, over a point, or over the edge.

A label tries places around its point, near ones first, and takes the one that covers least; as what is free depends on
where the others are, all choose again a few times. No chance is in it: the same points give the same places.
"""

from collections.abc import Sequence

import numpy as np

DISTANCES = (0.09, 0.13, 0.18, 0.25, 0.33, 0.42)  # inches from the point to the middle of its label
DIRECTIONS = 16
ROUNDS = 4
EDGE, LABEL, POINT, LINE, OTHER = 1e3, 300.0, 60.0, 2.0, 0.3
"""What it costs to be over the edge, a label or a point (for each square tenth of an inch), to be crossed by a line
(for each tenth), and to be nearer to another point than to one's own."""


def place_labels(
    points: np.ndarray, wide: Sequence[float], high: float, lines: np.ndarray, size: tuple[float, float]
) -> np.ndarray:
    """Return where the middles of labels go, (n, 2) inches.

    Args:
        points: (n, 2) inches from a corner of the panel; each has a label.
        wide: Width of each label.
        high: Height of all labels.
        lines: (m, 4) x and y of both ends of level and upright lines that are better not covered.
        size: Width and height of the panel.
    """
    angles = np.pi / 4 + 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS  # above and to the right first
    around = np.array([(d * np.cos(a), d * np.sin(a)) for d in DISTANCES for a in angles])
    half = np.stack([np.asarray(wide, float) / 2, np.full(len(points), high / 2)], 1)
    tries = (
        points[:, None] + around + np.sign(around.round(9)) * np.array([1.0, 0.0]) * (half[:, None] - high / 2).clip(0)
    )
    alone = np.stack(
        [_alone(number, tries[number], half[number], points, lines, size) for number in range(len(points))]
    )
    chosen = tries[np.arange(len(points)), alone.argmin(1)]
    for _ in range(ROUNDS):
        for number in range(len(points)):
            others = np.delete(np.arange(len(points)), number)
            taken = _common(tries[number], half[number], chosen[others], half[others]).sum(1)
            chosen[number] = tries[number, (alone[number] + LABEL * taken).argmin()]
    return chosen


def _alone(
    number: int, tries: np.ndarray, half: np.ndarray, points: np.ndarray, lines: np.ndarray, size: tuple[float, float]
) -> np.ndarray:
    """Return what each place (k, 2) costs apart from other labels."""
    over = (half - tries).clip(0) + (tries + half - np.asarray(size)).clip(0)
    cost = 10 * np.hypot(*(tries - points[number]).T) + EDGE * 10 * over.sum(1)
    cost += POINT * _common(tries, half, points, np.full((len(points), 2), 0.035)).sum(1)
    if len(lines):
        ends = lines.reshape(-1, 2, 2)
        middles, reach = ends.mean(1), np.abs(ends[:, 1] - ends[:, 0]) / 2
        shared = _shared(tries, half, middles, reach)
        cost += LINE * 10 * np.where((shared >= 0).all(-1), shared.max(-1), 0).sum(1)
    away = np.hypot(*(tries[:, None] - points).transpose(2, 0, 1))
    return cost + OTHER * (away.argmin(1) != number)


def _shared(tries: np.ndarray, half: np.ndarray, middles: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return by how much boxes overlap in each direction, (k, m, 2); below 0 where they are apart."""
    return half + halves - np.abs(tries[:, None] - middles)


def _common(tries: np.ndarray, half: np.ndarray, middles: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return the common area of boxes in square tenths of an inch, (k, m)."""
    return 100 * _shared(tries, half, middles, halves).clip(0).prod(-1)
