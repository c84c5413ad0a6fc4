"""Scenes: pieces of solids inside a shell, a light, and a camera that moves through them.

Lengths are metres, times seconds. In a scene z is up; in a room, seen from its entrance, x is right and y forward. In
a camera x is right, y down and z forward; a pose maps camera coordinates to scene coordinates.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.solids import RGB, Material, Point, Solid

SKY = "sky"
"""The label of a face of the shell that is infinitely far."""


@dataclass(frozen=True)
class Piece:
    """Solids that form one object and move together: a table and the things on it, a car, a house.

    Attributes:
        solids: The solids, close together: a shadow ray that misses their common bounding sphere misses all.
        label: A class of the scene; a solid may have its own (`Solid.label`).
        velocity: Metres per second, in the scene.
    """

    solids: tuple[Solid, ...]
    label: str
    velocity: Point = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Shell:
    """The box around a scene, seen from inside: the walls of a room, or ground and sky.

    Attributes:
        low: Corner of smallest x, y, z.
        high: The opposite corner.
        surfaces: Materials of the faces -x, +x, -y, +y, -z, +z.
        labels: Their classes.
    """

    low: Point
    high: Point
    surfaces: tuple[Material, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Lamps:
    """The light in a room.

    Attributes:
        lamp: Position of the lamp below the ceiling.
        windows: (position, inward normal) of each window through which light enters.
        colour: Colour of the lamp, linear RGB.
        ambient: Ambient light, relative to that of a day.
    """

    lamp: Point
    windows: tuple[tuple[Point, Point], ...] = ()
    colour: RGB = (1.0, 0.9, 0.76)
    ambient: float = 1.0


@dataclass(frozen=True)
class Sun:
    """Sunlight: `direction` is a unit vector to the sun, `strength` and `ambient` light are linear RGB."""

    direction: Point
    strength: RGB
    ambient: RGB


@dataclass(frozen=True)
class Camera:
    """The path of a camera through a scene.

    Attributes:
        poses: (frames, 4, 4) float64, camera to world.
        times: (frames,) seconds.
        focal: Focal length as a share of the image width.
        baseline: Metres to the right camera of a stereo pair.
    """

    poses: NDArray[np.float64]
    times: NDArray[np.float64]
    focal: float = 518.8579 / 640
    baseline: float = 0.1

    def intrinsics(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return K (3, 3) for an image of (height, width); its principal point is the centre."""
        height, width = size
        f = self.focal * width
        return np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1.0]])

    def partner(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (4, 4) pose of the right camera of a pair whose left one is at `pose`."""
        right = pose.copy()
        right[:3, 3] += self.baseline * pose[:3, 0]
        return right


@dataclass(frozen=True, eq=False)  # compared by identity, so that it can be a cache key
class Scene:
    """A static or moving scene and the path of a camera through it.

    Attributes:
        kind: "rooms", "streets" or "objects".
        category: Class of the whole image: "bedroom", "street", "mug".
        classes: Names of the labels; a label is an index into them.
        shell: The box around it.
        pieces: The objects in it.
        light: Lamps or the sun.
        camera: The path of the camera.
    """

    kind: str
    category: str
    classes: tuple[str, ...]
    shell: Shell
    pieces: tuple[Piece, ...]
    light: Lamps | Sun
    camera: Camera


@dataclass(frozen=True)
class View:
    """One frame of a scene and its ground truth.

    Ground truth is that of pixel centres, exact to rounding; only `image` is a mean over each pixel.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float64, metres along the optical axis; 0 = the sky.
        K: (3, 3) float64.
        pose: (4, 4) float64, camera to world.
        labels: (H, W) uint8, an index into the `classes` of the scene; 255 = no class.
        instances: (H, W) int32, the number of the piece, from 1; 0 = the shell.
        planes: (H, W) int32, a number for each flat face, the same in all frames; 0 = curved, or the sky.
        normals: (H, W, 3) float32 unit normals in camera axes, towards the camera; 0 = the sky.
        edges: (H, W) bool, occluding edges: the nearer side of each jump in depth.
        category: Category of the scene.
        partner: (H, W, 3) uint8, the image of the right camera; None if not rendered.
        flow: (H, W, 2) float32, pixels right and down to the next frame, NaN behind its camera; None if not rendered
            or in the last frame.
        occluded: (H, W) bool, True = occluded or outside in the next frame; None like `flow`.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float64]
    K: NDArray[np.float64]
    pose: NDArray[np.float64]
    labels: NDArray[np.uint8]
    instances: NDArray[np.int32]
    planes: NDArray[np.int32]
    normals: NDArray[np.float32]
    edges: NDArray[np.bool_]
    category: str
    partner: NDArray[np.uint8] | None = field(default=None)
    flow: NDArray[np.float32] | None = field(default=None)
    occluded: NDArray[np.bool_] | None = field(default=None)

    @property
    def right(self) -> NDArray[np.uint8]:
        """The image of the right camera.

        Raises:
            ValueError: It was not rendered.
        """
        if self.partner is None:
            raise ValueError("the view was rendered without the image of the right camera")
        return self.partner
