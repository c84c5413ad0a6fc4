"""Files of every kind that is read: what writes true ones into a folder, and what reads them."""

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from helpers import mesa_study, result_folders, semantic_study
from helpers.image_files import lsun_root
from helpers.model_files import VIT, same, transformers_folder
from helpers.readers import ROOTS
from helpers.trainers import save_small_model
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from cka_probe.attribution.saved_maps import SavedMap, load_maps, save_maps
from cka_probe.comparison.advice import advise
from cka_probe.comparison.atlas import compare_many
from cka_probe.comparison.compare import compare, fingerprint
from cka_probe.comparison.differences import difference
from cka_probe.comparison.explanation import explain
from cka_probe.comparison.features import load_features
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.groups import group_labels
from cka_probe.comparison.results import DifferenceMatrix, SimilarityMatrix
from cka_probe.comparison.seeds import compare_seeds
from cka_probe.comparison.shards import join_shards
from cka_probe.errors import CkaProbeError
from cka_probe.images.datasets import open_dataset
from cka_probe.images.reading import FORMATS
from cka_probe.lab.evaluation.classification import map_classes
from cka_probe.lab.evaluation.predictions import read_label_prediction, read_prediction, save_prediction
from cka_probe.lab.training.recipe import bundled, read_recipe
from cka_probe.models.checkpoint import load_trained
from cka_probe.models.checkpoints import inspect_file
from cka_probe.models.load import load
from cka_probe.monitoring.monitor import read_table
from cka_probe.papers.mesa.report import PAPER as MESA
from cka_probe.papers.mesa.study import MesaEvidence
from cka_probe.papers.page import Report
from cka_probe.plotting.runs import read_runs
from cka_probe.report import page_of


@dataclass(frozen=True)
class Target:
    """Files of one kind.

    Attributes:
        make: Writes true files into a folder.
        read: Reads the folder.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]


WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": {"c": 1, "d.bias": torch.zeros(2)}}
FLAT = {"a.weight": torch.arange(6.0).reshape(2, 3), "d.bias": torch.zeros(2)}
MODELS = {name: nn.Sequential(nn.Linear(4, 3), nn.ReLU()) for name in "xy"}
MANY_ROWS = torch.linspace(-1, 1, 256).reshape(64, 4).sin()
MODEL, ROWS = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.linspace(-1, 1, 32).reshape(8, 4).sin()


def _weights(name: str, save: Callable[[Path], object]) -> Target:
    return Target(lambda folder: save(folder / name), lambda folder: inspect_file(folder / name))


def _features(name: str, save: Callable[[Path], object]) -> Target:
    return Target(lambda folder: save(folder / name), lambda folder: load_features(folder / name))


def _images(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    for number, kind in enumerate(FORMATS):
        Image.fromarray(pixels).save(folder / f"{number}.png", kind)


def _listed(folder: Path) -> None:
    _images(folder)
    (folder / "list.txt").write_text("0.png\n1.png\n")


def _reader(name: str, make: Callable[[Path], Path]) -> Target:
    def read(folder: Path) -> None:
        dataset = open_dataset(f"{name}:{folder / (folder / 'root').read_text()}")
        for index in range(len(dataset)):
            dataset[index]

    def write(folder: Path) -> None:
        (folder / "set").mkdir()
        (folder / "root").write_text(str(make(folder / "set").relative_to(folder)))

    return Target(write, read)


def _prints(folder: Path) -> None:
    for name, model in MODELS.items():
        fingerprint(model, MANY_ROWS, layers="*", batch=16).save(folder / f"{name}.fingerprint")


def _read_prints(folder: Path) -> None:
    x, y = (Fingerprint.load(folder / f"{name}.fingerprint") for name in "xy")
    explain(x, y, "0")
    advise(x, y)


def _atlas(folder: Path) -> None:
    models = dict(zip("xyz", (*MODELS.values(), MODEL), strict=True))
    compare_many(models, ROWS, layers="*", permutations=4).save_folder(folder)


def _grouped(folder: Path) -> None:
    _images(folder)
    rows = [f"{number}.png,video {number % 2}\n" for number in range(len(FORMATS))]
    (folder / "groups.csv").write_text("name,group\n" + "".join(rows))


def _result(folder: Path) -> None:
    compare(MODEL, MODEL, ROWS, layers="*", permutations=4).save(folder / "result.json")


def _shards(folder: Path) -> None:
    for number in (1, 2):
        shard = fingerprint(MODEL, MANY_ROWS, layers="*", batch=16, shard=f"{number}/2")
        shard.save(folder / f"{number}.fingerprint")


def _difference(folder: Path) -> None:
    for name, model in MODELS.items():
        compare(MODEL, model, ROWS, layers="*", permutations=4).save(folder / name / "result.json")
    difference(folder / "x", folder / "y").save(folder / "difference.json")


def _read_difference(folder: Path) -> None:
    difference(folder / "x", folder / "y")
    DifferenceMatrix.load(folder / "difference.json")


def _maps(folder: Path) -> None:
    pixels, field = np.zeros((4, 6, 3), np.uint8), np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    save_maps([SavedMap(name, pixels, name, field, field, field[None], None) for name in "ab"], folder / "maps.npz")


def _predictions(folder: Path) -> None:
    save_prediction(folder, "a", np.ones((4, 6), np.float32))
    Image.fromarray(np.ones((4, 6), np.uint8)).save(folder / "a.png")


def _read_predictions(folder: Path) -> None:
    read_prediction(folder, "a")
    read_label_prediction(folder, "a")


def _recorded(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what writes a folder of results with the record of its commands."""

    def write(folder: Path) -> None:
        make(folder)
        (folder / "commands.txt").write_text("result.json: ckaprobe compare a.pth b.pth\n")

    return write


def _readme(folder: Path) -> None:
    _images(folder)
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    (folder / "README.md").write_text(f"# Title\n\nText.\n\n## Part\n\n![One](0.png)\n\n{table}")


def _semantic(folder: Path) -> None:
    semantic_study.study(folder).similarity("none", "video", semantic_study.PARTING)


def _mesa(folder: Path) -> None:
    mesa_study.study(folder, (0,))
    writer = mesa_study.Writer(folder)
    writer.checkpoint("mp")
    writer.log("mp")


def _sharded(folder: Path) -> None:
    dcp.save({"model": FLAT, "step": 3}, checkpoint_id=folder / "saved", no_dist=True)


def _seeds(folder: Path) -> None:
    _prints(folder)
    fingerprint(MODEL, MANY_ROWS, layers="*", batch=16).save(folder / "z.fingerprint")


def _read_seeds(folder: Path) -> None:
    compare_seeds([Fingerprint.load(folder / f"{name}.fingerprint") for name in "xyz"])


DRIFT = "step,layer_index,layer,value,low,high,undefined\n1,0,a,0.5,0.4,0.6,\n"
PAGES = {
    "compare": result_folders.comparison,
    "train": result_folders.run,
    "depth": result_folders.depth_scores,
    "labels": result_folders.label_scores,
    "gradcam": result_folders.attributions,
    "study": _semantic,
    "readme": _readme,
}


TARGETS: dict[str, Target] = {
    "torch zip": _weights("a.pth", lambda path: torch.save(WEIGHTS, path)),
    "torch legacy": _weights("a.pth", lambda path: torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)),
    "pickle": _weights("a.pkl", lambda path: path.write_bytes(pickle.dumps({"a": np.ones(3), "b": [1, "c"]}))),
    "safetensors": _weights("a.safetensors", lambda path: save_file(FLAT, path, metadata={"format": "pt"})),
    "npz": _weights("a.npz", lambda path: np.savez(path, a=np.ones((2, 3)), b=np.ones(2))),
    "fingerprint": Target(
        lambda folder: fingerprint(MODEL, ROWS, layers="*").save(folder / "a.fingerprint"),
        lambda folder: Fingerprint.load(folder / "a.fingerprint"),
    ),
    "result": Target(_result, lambda folder: SimilarityMatrix.load(folder / "result.json").summary()),
    "why and advise": Target(_prints, _read_prints),
    "atlas": Target(_atlas, page_of),
    "groups": Target(_grouped, lambda folder: group_labels(str(folder / "groups.csv"), str(folder), num=None, seed=0)),
    "features.npz": _features(
        "a.npz", lambda path: np.savez(path, a=MANY_ROWS.numpy(), b=ROWS.numpy()[:, :1].repeat(8, 0))
    ),
    "seeds": Target(_seeds, _read_seeds),
    "join": Target(_shards, lambda folder: join_shards([folder / f"{number}.fingerprint" for number in (1, 2)])),
    "difference": Target(_difference, _read_difference),
    "features.npy": _features("a.npy", lambda path: np.save(path, MANY_ROWS.numpy())),
    "features.safetensors": _features("a.safetensors", lambda path: save_file({"a": MANY_ROWS}, path)),
    "maps": Target(_maps, lambda folder: load_maps(folder / "maps.npz")),
    "predictions": Target(_predictions, _read_predictions),
    "classes": Target(
        lambda folder: (folder / "classes.txt").write_text("cat\ndog\n"),
        lambda folder: map_classes(["cat", "dog"], 2, file=folder / "classes.txt"),
    ),
    "monitor": Target(
        lambda folder: (folder / "drift.csv").write_text(DRIFT), lambda folder: read_table(folder / "drift.csv")
    ),
    "curves": Target(lambda folder: result_folders.run(folder / "run"), lambda folder: read_runs([folder / "run"])),
    "trained": Target(
        lambda folder: save_small_model(folder / "a.safetensors"), lambda folder: load_trained(folder / "a.safetensors")
    ),
    "transformers": Target(
        transformers_folder("ViTModel", VIT, same("layers.2"), shards="100KB").make,
        lambda folder: load(folder / "saved"),
    ),
    "distributed": Target(_sharded, lambda folder: inspect_file(folder / "saved")),
    "study of mesa": Target(_mesa, lambda folder: Report.of(MESA, MesaEvidence.load(folder)).page()),
    "study of depth-to-semantic": Target(_semantic, semantic_study.page),
    **{f"page of {name}": Target(_recorded(make), page_of) for name, make in PAGES.items()},
    "recipe.toml": Target(
        lambda folder: (folder / "a.toml").write_text(bundled()["demo"]), lambda folder: read_recipe(folder / "a.toml")
    ),
    "recipe.json": Target(
        lambda folder: (folder / "a.json").write_text(json.dumps(read_recipe("demo").as_dict())),
        lambda folder: read_recipe(folder / "a.json"),
    ),
    "images": Target(_images, lambda folder: [image["image"] for image in _each(open_dataset(folder))]),
    "list": Target(_listed, lambda folder: open_dataset(f"folder:{folder}?list=list.txt")),
    **{
        f"{name}-{number}": _reader(name, make)
        for name, makes in ROOTS.items()
        for number, make in enumerate(makes)
        if make is not lsun_root  # pages of LMDB are trusted by LMDB, which is C: see SECURITY.md
    },
}


def _each(dataset) -> Iterator[dict]:
    """Yield every sample that can be read; an error of one must not hide the others."""
    errors = []
    for index in range(len(dataset)):
        try:
            yield dataset[index]
        except CkaProbeError as error:
            errors.append(error)
    if errors:
        raise errors[0]
