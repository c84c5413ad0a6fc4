"""Every command in small, and the inputs it needs, for tests of what all commands have in common."""

import shutil
from pathlib import Path

from helpers.depth_models import save_model
from helpers.shared_runs import folder_of_images

import cka_probe
from cka_probe.lab.scenes import Settings, make_scenes

RECIPE = """
name = "small"
architecture = "resnet18"
size = 32
seed = 0
[stages.depth]
task = "depth"
data = "nyuv2:{rooms}"
steps = 12
batch = 4
lr = 1e-3
save_every = 2
[stages.more]
task = "depth"
start = "depth"
data = "nyuv2:{rooms}"
steps = 6
batch = 4
lr = 1e-3
save_every = 1
"""
MODELS = ("random:resnet18:0", "random:resnet18:1")
RUN = ("--device", "cpu", "--quiet")
IMAGES = ("--num", "24", "--batch", "8", "--size", "32", *RUN)
DATA = ("--data", "nyuv2:{inputs}/rooms")
FINGERPRINTS = ("{inputs}/x.fingerprint", "{inputs}/y.fingerprint")
TEACHER = "{inputs}/teacher.safetensors"

COMMANDS: dict[str, list[str]] = {
    "train": ["train", "--recipe", "{inputs}/small.toml", "--out", "{out}/run", *RUN],
    "fingerprint": [
        *("fingerprint", MODELS[0], *DATA, "--num-features", "32", "-o", "{out}/a.fingerprint", *IMAGES),
    ],
    "join": ["join", "{inputs}/1.fingerprint", "{inputs}/2.fingerprint", "-o", "{out}/whole.fingerprint"],
    "compare": ["compare", *MODELS, *DATA, "--out", "{out}/ab", "--permutations", "20", *IMAGES],
    "atlas": [
        *("atlas", *MODELS, "random:resnet18:2", *DATA, "--layers", "layer4.0,layer4.1", "--out", "{out}/atlas"),
        *("--permutations", "4", *IMAGES),
    ],
    "seeds": ["seeds", *FINGERPRINTS, "--against", "{inputs}/z.fingerprint", "--out", "{out}/seeds"],
    "why": ["why", *FINGERPRINTS, "--cell", "layer4.1", "--out", "{out}/why"],
    "advise": ["advise", *FINGERPRINTS, "--out", "{out}/advice"],
    "regions": [
        *("regions", *MODELS, *DATA, "--layers", "layer1.0", "--out", "{out}/regions", "--permutations", "4", *IMAGES),
    ],
    "draw": ["draw", "{out}/compared"],
    "report": ["report", "{out}/compared"],
    "layers": ["layers", MODELS[0], "--layers", "all"],
    "inspect": ["inspect", TEACHER],
    "measures": ["measures"],
    "evaluate": ["evaluate", TEACHER, *DATA, "--draw", "1", "--out", "{out}/scores", *RUN],
    "gradcam": [
        *("gradcam", MODELS[0], "--layer", "layer4.1", "--target", "none", "--data", "{inputs}/images"),
        *("--keep", "--out", "{out}/maps", *RUN),
    ],
    "data make": ["data", "make", "rooms", "{out}/rooms", "--num", "8", "--size", "64x48", "--quiet"],
    "data check": [
        *("data", "check", "nyuv2:{inputs}/rooms", "--out", "{out}/sheet.png", "--json", "{out}/statistics.json", "-q"),
    ],
    "data pseudo-depth": ["data", "pseudo-depth", TEACHER, "scdepth:{out}/video", *RUN],
    "reproduce": [
        *("reproduce", "depth-to-semantic", "--scale", "paper", "--tables", "figure7", "--rehearse"),
        *("--out", "{out}/semantic", *RUN),
    ],
}
"""By name, what is typed after `ckaprobe`; `fill` writes what a command needs in the folder it writes to."""

IN_PLACE = {"draw": "compared", "report": "compared", "data pseudo-depth": "video"}
NO_FILES = ("layers", "inspect", "measures")
WRITING = [name for name in COMMANDS if name not in NO_FILES]

RESULTS = {
    "fingerprint": "a.fingerprint",
    "join": "whole.fingerprint",
    "compare": "ab/result.json",
    "atlas": "atlas/atlas.json",
    "why": "why/why.json",
    "advise": "advice/advice.json",
    "regions": "regions/regions.csv",
    "evaluate": "scores/scores.json",
    "gradcam": "maps/gradcam.json",
}
"""The result of a command that does not replace that of another command."""


def make_inputs(folder: Path) -> None:
    """Write a recipe, images, rooms, video, a teacher, fingerprints, shards of one and a comparison to a folder."""
    make_scenes(folder / "rooms", Settings("rooms", 12, 2, (48, 64), 0, layout="nyuv2"))
    make_scenes(folder / "video", Settings("rooms", 4, 2, (48, 64), 0, layout="sc_depth"))
    for pseudo_depth in folder.glob("video/training/*/leres_depth"):
        shutil.rmtree(pseudo_depth)
    (folder / "small.toml").write_text(RECIPE.format(rooms=folder / "rooms"))
    save_model(folder / "teacher.safetensors")
    images = folder_of_images(folder / "images", 8)
    for part in (1, 2):
        shard = cka_probe.fingerprint(MODELS[0], images, batch=4, size=32, device="cpu", shard=f"{part}/2")
        shard.save(folder / f"{part}.fingerprint")
    sides = [cka_probe.fingerprint(model, images, batch=4, size=32, device="cpu") for model in MODELS]
    for name, side in zip("xy", sides, strict=True):
        side.save(folder / f"{name}.fingerprint")
    cka_probe.fingerprint("random:resnet18:2", images, batch=4, size=32, device="cpu").save(folder / "z.fingerprint")
    result = cka_probe.compare_fingerprints(*sides, permutations=4)
    result.save(folder / "compared" / "result.json")


def fill(command: str, inputs: Path, out: Path) -> None:
    """Copy to a folder what a command needs there."""
    if name := IN_PLACE.get(command):
        shutil.copytree(inputs / name, out / name, copy_function=shutil.copyfile)


def words_of(command: str, inputs: Path | str, out: Path | str) -> list[str]:
    """Return what is typed after `ckaprobe`."""
    return [word.format(inputs=inputs, out=out) for word in COMMANDS[command]]
