"""What a scene is: pieces of solids inside a shell, a light, and a camera that moves through it.

Lengths are metres, times seconds. The scene has z up; in a room x is to the right and y forward when one enters.
A camera has x right, y down, z forward; a pose takes its coordinates to the scene's.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.solids import RGB, Material, Point, Solid

SKY = "sky"
"""The label of a shell's face that is infinitely far."""


@dataclass(frozen=True)
class Piece:
    """Solids that belong and move together: a table with what lies on it, a car, a house.

    Attributes:
        solids: Close together, since what misses the box around them misses all of them.
        label: A class of the scene; a solid may have one of its own (`Solid.label`).
        velocity: Metres a second, in the world.
    """

    solids: tuple[Solid, ...]
    label: str
    velocity: Point = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Shell:
    """The box around everything, seen from inside: a room's walls, or ground and sky.

    Attributes:
        low: Its corner of least x, y, z.
        high: The opposite one.
        surfaces: Materials of the faces -x, +x, -y, +y, -z, +z.
        labels: Their classes.
    """

    low: Point
    high: Point
    surfaces: tuple[Material, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Lamps:
    """Light of a room.

    Attributes:
        lamp: Where the lamp below the ceiling is.
        windows: (place, inward normal) of each window that light comes in by.
        colour: Of the lamp's light, linear RGB.
        around: Light from all around, in shares of a day's.
    """

    lamp: Point
    windows: tuple[tuple[Point, Point], ...] = ()
    colour: RGB = (1.0, 0.9, 0.76)
    around: float = 1.0


@dataclass(frozen=True)
class Sun:
    """Light of the open: `towards` is a unit vector to the sun, `strength` and `around` are linear RGB."""

    towards: Point
    strength: RGB
    around: RGB


@dataclass(frozen=True)
class Camera:
    """A camera's way through a scene.

    Attributes:
        poses: (frames, 4, 4) float64, camera to world.
        times: (frames,) seconds.
        focal: Focal length as a share of the image's width.
        baseline: Metres to the stereo partner, which stands to the right.
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


@dataclass(frozen=True, eq=False)  # a scene is itself and no other, and so can be a key
class Scene:
    """A place and the way a camera takes through it.

    Attributes:
        kind: "rooms", "streets" or "objects".
        category: What the whole image is of: "bedroom", "street", "mug".
        classes: Names of the labels; a label's number is its place here.
        shell: What is around.
        pieces: What stands in it.
        light: Of a room or of the open.
        camera: Where it is seen from.
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
    """One frame of a scene and the truth about it.

    Truth is that of the pixels' centres, exact to rounding; only `image` is a mean over each pixel.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float64, metres along the optical axis; 0 = the sky.
        K: (3, 3) float64.
        pose: (4, 4) float64, camera to world.
        labels: (H, W) uint8, a place in the world's `classes`; 255 = none of them.
        instances: (H, W) int32, the piece's number from 1; 0 = the shell.
        planes: (H, W) int32, a number for each flat face, alike in all frames of a scene; 0 = curved, or the sky.
        normals: (H, W, 3) float32 unit normals in the camera's axes, towards it; 0 = the sky.
        edges: (H, W) bool, occluding edges: the nearer side of each jump in depth.
        category: Of the scene.
        partner: (H, W, 3) uint8, what the right camera of the pair sees; None if not asked for.
        flow: (H, W, 2) float32, pixels right and down to the next frame; None if there is none. NaN: behind it.
        occluded: (H, W) bool, True: hidden or outside in the next frame; None as `flow`.
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
        """The partner's image, for layouts that ask for it.

        Raises:
            ValueError: It was not asked for.
        """
        if self.partner is None:
            raise ValueError("the view was drawn without the image of the right camera")
        return self.partner
