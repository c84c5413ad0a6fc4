"""The solids of a scene as arrays for ray casting and shading, the shell last, so that its index is -1."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from cka_probe.images.sample import IGNORE
from cka_probe.lab.scenes import patterns_indoors, patterns_outdoors
from cka_probe.lab.scenes.scene import SKY, Scene
from cka_probe.lab.scenes.solids import BOX, Solid, bounds
from cka_probe.lab.scenes.surface import Array, Surface

Floats = NDArray[np.floating]
Numbers = NDArray[np.integer]


def _patterns(module: ModuleType) -> dict[str, Callable[[Surface], Array]]:
    """Return the public functions of a module by name."""
    functions = {
        name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    }
    return {name: value for name, value in functions.items() if not name.startswith("_")}


PATTERNS = _patterns(patterns_indoors) | _patterns(patterns_outdoors)
"""Patterns by the name in `Material`: every public function of the two modules.

A pattern is a function of the position of a point on its surface and of the two colours of its material. What an image
shows then moves with the surface and not with the pixel grid, as photometric losses require. For the same reason no
surface is perfectly plain.
"""

_SQUARE = 1e-7  # radians by which an angle may differ from a right angle


@dataclass(frozen=True)
class Boxes:
    """Parallel boxes of a piece that cast shadows, tested at once.

    Attributes:
        turn: (2,) cosine and sine of the angle of their common axes.
        numbers: (b,) indices of the solids.
        reach: (3, b) half extents in these axes.
    """

    turn: Floats
    numbers: Numbers
    reach: Floats


@dataclass(frozen=True)
class Shadows:
    """The solids of a piece that cast shadows: parallel boxes, and the indices of all others."""

    boxes: tuple[Boxes, ...]
    others: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """S solids and a shell, P pieces, M materials; lengths in metres, seconds.

    Attributes:
        solids: The solids of the scene, without the shell.
        shape: (S + 1,) kind of each solid.
        centre: (3, S + 1) position in the scene, at the time of the table.
        half: (3, S + 1) half extents in its own axes.
        turn: (2, S + 1) cosine and sine of its yaw.
        square: (S,) whether its sides are parallel to the axes of the scene.
        reach: (3, S) half extents; x and y are exchanged for a square solid rotated by a right angle.
        piece: (S + 1,) index of its piece; -1 for the shell.
        velocity: (3, S + 1) metres per second.
        label: (6, S + 1) uint8 class of each face -x, +x, -y, +y, -z, +z.
        sky: (6,) which faces of the shell are infinitely far.
        balls: (P, 4) centre and squared radius of a sphere around the solids of each piece that cast shadows.
        shadows: These solids, for each piece.
        material: (6, S + 1) index of the material of each face.
        first: (M, 3) first colour, linear RGB.
        second: (M, 3) second colour, linear RGB.
        period: (M,) period of the pattern in metres.
        glow: (M,) emitted light, as a multiple of the colour.
        pattern: (M,) uint8 index into `PATTERNS`.
    """

    solids: tuple[Solid, ...]
    shape: Numbers
    centre: Floats
    half: Floats
    turn: Floats
    square: NDArray[np.bool_]
    reach: Floats
    piece: Numbers
    velocity: Floats
    label: Numbers
    sky: NDArray[np.bool_]
    balls: Floats
    shadows: tuple[Shadows, ...]
    material: Numbers
    first: Floats
    second: Floats
    period: Floats
    glow: Floats
    pattern: Numbers

    def at(self, time: float, velocity: Floats) -> "Table":
        """Return the table `time` seconds later; `velocity` is (3, P) of the pieces."""
        if not time or not velocity.any():
            return self
        balls = self.balls.copy()
        balls[:, :3] += time * velocity.T
        return replace(self, centre=self.centre + time * self.velocity, balls=balls)


@lru_cache(maxsize=4)
def tabulate(scene: Scene) -> Table:
    """Return the solids and materials of a scene as arrays, at time 0."""
    solids = tuple(solid for piece in scene.pieces for solid in piece.solids)
    owner = [number for number, piece in enumerate(scene.pieces) for _ in piece.solids]
    low, high = np.array(scene.shell.low), np.array(scene.shell.high)
    centre = np.array([*(solid.centre for solid in solids), (low + high) / 2]).T
    half = np.array([*(solid.half for solid in solids), (high - low) / 2]).T
    yaw = np.array([*(solid.yaw for solid in solids), 0.0])
    quarter = np.round(yaw / (np.pi / 2))
    square = np.abs(yaw - quarter * (np.pi / 2)) < _SQUARE
    crossed = square & (quarter.astype(int) % 2 == 1)
    materials = [solid.material for solid in solids] + list(scene.shell.surfaces)
    own, shell = np.tile(np.arange(len(solids)), (6, 1)), len(solids) + np.arange(6)[:, None]
    return Table(
        solids=solids,
        shape=np.array([solid.shape for solid in solids] + [BOX]),
        centre=centre,
        half=half,
        turn=np.stack([np.cos(yaw), np.sin(yaw)]),
        square=square[:-1],
        reach=np.where(crossed, half[[1, 0, 2]], half)[:, :-1],
        piece=np.array([*owner, -1]),
        velocity=np.array([*(scene.pieces[number].velocity for number in owner), (0.0, 0.0, 0.0)]).T,
        label=_labels(scene, solids, owner),
        sky=np.array([label == SKY for label in scene.shell.labels]),
        balls=_balls(scene),
        shadows=_shadows(scene, yaw, half),
        material=np.concatenate([own, shell], axis=1),
        first=np.array([m.first for m in materials], np.float32),
        second=np.array([m.second for m in materials], np.float32),
        period=np.array([m.size for m in materials], np.float32),
        glow=np.array([m.glow for m in materials], np.float32),
        pattern=np.array([_PATTERN_INDEX[m.pattern] for m in materials], np.uint8),
    )


_PATTERN_INDEX = {name: index for index, name in enumerate(PATTERNS)}


def _labels(scene: Scene, solids: tuple[Solid, ...], owner: list[int]) -> Numbers:
    """Return the class of each face, (6, S + 1) uint8."""
    numbers = {name: number for number, name in enumerate(scene.classes)} | {"": IGNORE}
    labels = [numbers[solid.label or scene.pieces[number].label] for solid, number in zip(solids, owner, strict=True)]
    shell = np.array([numbers[label] for label in scene.shell.labels])[:, None]
    return np.concatenate([np.tile(labels, (6, 1)).astype(int), shell], axis=1).astype(np.uint8)


def _shadows(scene: Scene, yaw: Floats, half: Floats) -> tuple[Shadows, ...]:
    """Return the solids of each piece that cast shadows; boxes at right angles count as parallel."""
    shadows, start = [], 0
    for piece in scene.pieces:
        casting = [n for n, solid in enumerate(piece.solids, start) if solid.shadow]
        boxes = np.array([n for n in casting if piece.solids[n - start].shape == BOX], int)
        others = tuple(n for n in casting if piece.solids[n - start].shape != BOX)
        quarter = np.round(yaw[boxes] / (np.pi / 2))
        angle = yaw[boxes] - quarter * (np.pi / 2)
        crossed = quarter.astype(int) % 2 == 1
        reach = np.where(crossed, half[[1, 0, 2]][:, boxes], half[:, boxes])
        same = [np.abs(angle - one) < _SQUARE for one in np.unique(np.round(angle, 8))]
        parts = [Boxes(_turn(angle[here][0]), boxes[here], reach[:, here]) for here in same if here.any()]
        shadows.append(Shadows(tuple(parts), others))
        start += len(piece.solids)
    return tuple(shadows)


def _turn(angle: float) -> Floats:
    return np.array([np.cos(angle), np.sin(angle)])


def _balls(scene: Scene) -> Floats:
    """Return centre and squared radius of a ball around the solids of each piece that cast a shadow, (P, 4)."""
    balls = np.zeros((len(scene.pieces), 4))
    for ball, piece in zip(balls, scene.pieces, strict=True):
        solids = [solid for solid in piece.solids if solid.shadow]
        if solids:
            low, high = bounds(solids)
            ball[:3], ball[3] = (low + high) / 2, ((high - low) ** 2).sum() / 4
        else:
            ball[3] = -np.inf
    return balls
