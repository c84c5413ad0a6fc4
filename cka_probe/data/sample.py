"""What a sample is: a dict of named fields, each with one shape, dtype and unit.

| field | shape, dtype | meaning |
|---|---|---|
| `image` | (3, H, W) float32 | RGB in [0, 1] |
| `depth` | (1, H, W) float32 | metres along the optical axis; 0 = not measured |
| `K` | (3, 3) float32 | intrinsics in pixels of this `image` |

A dataset declares what it `gives`, a task what it `needs`; `needs <= gives` is checked before a weight is
loaded. A batch is the same dict with a first axis more.
"""

FIELDS = ("image", "depth", "K")
