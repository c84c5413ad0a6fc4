"""Scores and maps of small models, in this process or shared by several."""

from helpers.blocks import Blocks
from helpers.rooms import Rooms

from cka_probe.attribution.attribute import attribute
from cka_probe.attribution.saved_maps import save_maps
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.evaluation.evaluate import evaluate


def evaluate_all(models, out, write):
    """Score a depth and a segmentation model and make maps of the latter; write the results if asked to."""
    DATASETS["rooms"] = Rooms
    DATASETS["blocks"] = lambda path, split="all": Blocks((60, 90), block=15)
    out.mkdir(exist_ok=True)
    depth = evaluate(models / "depth.safetensors", "rooms:x", batch=1, device="cpu", keep=out / "depth")
    labels = evaluate(models / "labels.safetensors", "blocks:x", batch=2, device="cpu", keep=out / "labels")
    maps, saved = attribute({"one": models / "labels.safetensors"}, "blocks:x", num=None, device="cpu", keep=-1)
    if write:
        for name, result in (("depth", depth), ("labels", labels), ("maps", maps)):
            result.save(out / f"{name}.json")
        save_maps(saved["one"], out / "maps.npz")
