"""Transforms that carry every field of a sample along: what is true of an image stays true of its views.

With `typed`, the fields become TVTensors, and the transforms of `torchvision.transforms.v2` (RandomResizedCrop,
RandomHorizontalFlip, Resize, RandomCrop, CenterCrop, Pad, ColorJitter …) take a whole sample as it is:

    view = plain(v2.Compose([v2.RandomResizedCrop(192), v2.RandomHorizontalFlip()])(typed(sample)))

They draw from the global generator. Where a view is to follow from a seed of its own, draw a box and apply it:

    view = resized_crop(sample, random_area(480, 640, generator, (0.67, 1.0)), (192, 192))

| | resize | crop, pad | mirror | where there is nothing |
|---|---|---|---|---|
| `image`, `sources` | mean over the area | | | as torchvision fills it |
| `depth`, `pseudo_depth` | nearest | | | 0 |
| `flow` | nearest; values scaled | | x changes sign | NaN |
| `normals` | nearest | | x changes sign | 0 |
| `labels`, `instances`, `planes` | nearest | | | 255, 0, 0 |
| `edges` | any edge in the area stays one | | | False |
| `valid`, `occluded` | nearest | | | False, True |
| `K` | f' = s f, c' = s (c + 1/2) - 1/2 | c' = c - left | c' = W - 1 - c | |
| `world_T_target`, `source_T_target` | | | F T F, F = diag(-1, 1, 1, 1) | |
| `category` | | | | |

"Nearest" is nearest to the new pixel's centre (torch's `nearest-exact`). A mirrored stereo pair is one whose other
camera stands on the other side; `source_T_target` says so. Rotations and all other changes of geometry would make
K, poses or normals wrong; they are refused.
"""

from cka_probe.lab.transforms.color import color_jittered
from cka_probe.lab.transforms.fields import TYPES, plain, typed
from cka_probe.lab.transforms.views import (
    Box,
    cropped,
    flipped,
    flips,
    largest,
    native,
    random_area,
    resized,
    resized_crop,
    uniform,
)

__all__ = [
    "TYPES",
    "Box",
    "color_jittered",
    "cropped",
    "flipped",
    "flips",
    "largest",
    "native",
    "plain",
    "random_area",
    "resized",
    "resized_crop",
    "typed",
    "uniform",
]
