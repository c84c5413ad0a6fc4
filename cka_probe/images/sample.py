"""Samples: dicts of named fields, each with one shape, dtype and unit.

| field | shape, dtype | meaning |
|---|---|---|
| `image` | (3, H, W) float32 | RGB in [0, 1] |
| `depth` | (1, H, W) float32 | metres along the optical axis; 0 = not measured |
| `pseudo_depth` | (1, H, W) float32 | depth up to an unknown scale and shift; 0 = none |
| `K` | (3, 3) float32 | intrinsics in pixels of this `image` |
| `world_T_target` | (4, 4) float32 | pose: camera to world, metres |
| `sources` | (S, 3, H, W) float32 | other images of the same scene: neighbours in time, the stereo partner |
| `source_T_target` | (S, 4, 4) float32 | takes points of the target's camera to each source's; NaN = not known |
| `flow` | (2, H, W) float32 | pixels (right, down) from here to the next frame of the video; NaN = not known |
| `occluded` | (1, H, W) bool | True: this point is hidden or outside in the next frame |
| `labels` | (H, W) int64 | class of each pixel; 255 = ignore |
| `instances` | (H, W) int64 | number of the thing each pixel belongs to; 0 = none |
| `planes` | (3, H, W) int64 | numbers of the wall, the table, the floor each pixel belongs to; 0 = none |
| `normals` | (3, H, W) float32 | unit normal in the camera's axes, towards the camera; 0 = not known |
| `edges` | (1, H, W) bool | occluding depth edges |
| `valid` | (1, H, W) bool | pixels that a score may use, where a dataset says so |
| `category` | () int64 | class of the whole image |

The objects of an image, N of them, any number, which change together:

| field | shape, dtype | meaning |
|---|---|---|
| `boxes` | (N, 4) float32 | left, top, right, bottom in pixels; edges of pixels are whole numbers |
| `box_classes` | (N) int64 | class of each |
| `box_crowds` | (N) bool | True: a crowd or group, neither an object to find nor background |
| `box_masks` | (N, H, W) bool | pixels of each |

The axes of a camera are x right, y down, z forward; `a_T_b` transforms coordinates of b to coordinates of a. Pixel
centres are integers: the first is (0, 0), the last (W - 1, H - 1).

A dataset declares what it `gives`, a task what it `needs`; `needs <= gives` is checked before any weight is loaded. A
batch is the same dict with an additional first axis.
"""

from torch import Tensor

FIELDS = (
    "image",
    "depth",
    "pseudo_depth",
    "K",
    "world_T_target",
    "sources",
    "source_T_target",
    "flow",
    "occluded",
    "labels",
    "instances",
    "planes",
    "normals",
    "edges",
    "valid",
    "category",
)

OBJECTS = ("boxes", "box_classes", "box_crowds", "box_masks")
"""The fields of objects, whose number differs between images."""

IGNORE = 255
"""The label that losses and scores ignore."""

Sample = dict[str, Tensor]
"""The fields of one sample by name; in a batch each has an additional first axis."""
