"""How well two frames of a scene agree, by true depth and pose; the numbers of this folder's README.

python reports/scenes/stories.py --out reports/scenes/stories.json

Of each kind, way and size it looks at the first scenes of a seed: the share of visible pixels whose point lands
within 1 % of the other frame's depth, and how many times smaller the photometric error is after the warp. Of stereo
pairs also the share of patches of 8 x 8 pixels that fit best where true depth puts them and not one or two pixels
beside, as drawn and with noise of two levels of 255 in both images.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from stories import agreement, gain, holds, tell  # what the tests bound

from cka_probe.lab.scenes import SCENES

SIZES = {
    "rooms": ((96, 128), (192, 256), (384, 512)),
    "streets": ((96, 320), (192, 640), (375, 1242)),
    "objects": ((96, 96), (192, 192), (384, 384)),
}
SEED = 7
LINE = "{:<8} {:<10} {:>9}  {:>8}  {:>5.1f}  {:>4.1f} to {:>4.1f}  {}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=12, help="of each kind")
    parser.add_argument("--out", help="JSON to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind, sizes in SIZES.items():
        scenes = [SCENES[kind](SEED, index, 2) for index in range(options.scenes)]
        for way in ("forwards", "backwards", "stereo"):
            for size in sizes:
                stories = [tell(scene, size, way) for scene in scenes]
                within = torch.cat([agreement(story) for story in stories]) < 0.01
                gains = [gain(story) for story in stories]
                row = {"kind": kind, "way": way, "size": size, "within": float(within.double().mean()), "gains": gains}
                if way == "stereo":
                    row["holds"] = [float(np.mean([holds(story, noise=n) for story in stories])) for n in (0, 2)]
                rows.append(row)
                at, share = f"{size[1]}x{size[0]}", f"{row['within']:.2%}"
                held = "  ".join(f"{one:.1%}" for one in row.get("holds", ()))
                print(LINE.format(kind, way, at, share, np.mean(gains), min(gains), max(gains), held), flush=True)
    if options.out:
        Path(options.out).write_text(json.dumps({"seed": SEED, "rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
