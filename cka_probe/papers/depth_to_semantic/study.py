"""A study of Depth-to-Semantic: what it consists of (`paper.toml`), its cases, scales and paths, and what is on disk.

An *arm* is one way of pre-training the encoder. A *case* is one way of fine-tuning an arm for semantic segmentation,
and is run several times (*trials*): each trial draws another training set, another head, another order of images.
The learning rate is chosen for each arm and data set by trying a few on held-out images (`Case.base`), and all other
cases of that arm on that data use it.

A *run* is one fine-tuning of a case: a trial under a seed. All cases of a run have the same training images in the
same order and the same new weights, so that two of them are compared in pairs. A trial whose loss stopped being a
number has no scores, and is distinguished from one that was not run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cka_probe import registry
from cka_probe.attribution.attributions import Attributions
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.detection_scores import DetectionScores
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.predictions import NOTE
from cka_probe.lab.scenes import Settings
from cka_probe.papers.evidence import RunKey, StudyEvidence, find_seeds, read_curves, read_study
from cka_probe.papers.study import StudyPaths, read_declarations, read_object, read_run_recipe, read_scales

DECLARATIONS = read_declarations(Path(__file__).with_name("paper.toml"))
ARMS, QUIRKS, LABELLED = (DECLARATIONS[name] for name in ("arms", "quirks", "labelled"))

CaseScores = LabelScores | DetectionScores

DATA_OF: dict[str, str] = DECLARATIONS["data_of"]

NONE = "none"
"""The arm without pre-training."""

ATTRIBUTES = {"data": "labelled", "network": "networks", "mode": "modes", "size": "sizes", "setting": "settings"}
"""Attributes of a case, and the table of `paper.toml` that has their words."""

CASE_WORDS = {word: attribute for attribute, table in ATTRIBUTES.items() for word in DECLARATIONS[table]}
"""Words in the name of a case, and which attribute of it they are."""

SEGMENT = "segment"
"""The one stage of the segmentation recipe."""

TRAINING_SCORES = "training.json"
"""Scores of a run on the images that it was trained on, in its folder."""

DIVERGED = "diverged.json"
"""Written instead of a trial's scores if its loss stopped being a number."""


@dataclass(frozen=True)
class Case:
    """One way of fine-tuning.

    Attributes:
        arm: In `ARMS`.
        data: In `LABELLED`.
        network: A head, of `networks`.
        mode: What begins as pre-trained and what learns, of `modes`.
        num: Training images; 0 is the scale's default.
        size: Of `sizes`, or "" for the scale's input size.
        setting: Of `settings`, or "" for the usual one.
        quirks: In `QUIRKS`.
    """

    arm: str
    data: str = "kitti"
    network: str = "skip"
    mode: str = "all"
    num: int = 0
    size: str = ""
    setting: str = ""
    quirks: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Case":
        """Return the case of a name, in any order after the arm and without what is by default.

        Raises:
            UnknownNameError: A word is none of a case.

        >>> Case.of("flow~frozen~n4") == Case("flow", mode="frozen", num=4)
        True
        >>> Case.of("video~unmirrored").quirks
        ('unmirrored',)
        """
        arm, *words = text.split("~")
        fields: dict[str, Any] = {}
        for word in words:
            if word in CASE_WORDS:
                fields[CASE_WORDS[word]] = word
            elif word.startswith("n") and word[1:].isdecimal():
                fields["num"] = int(word[1:])
            else:
                quirks = {quirk: (quirk,) for quirk in QUIRKS} | {"released": tuple(QUIRKS)}
                fields["quirks"] = registry.get(quirks, word, "quirk")
        return cls(arm, **fields)

    @property
    def name(self) -> str:
        """Name of its folder.

        >>> Case("video").name, Case("flow", mode="frozen", num=4).name
        ('video~kitti~skip~all', 'flow~kitti~skip~frozen~n4')
        """
        quirks = ("released",) if self.quirks == tuple(QUIRKS) else self.quirks
        more = [f"n{self.num}" if self.num else "", self.size, self.setting, *quirks]
        return "~".join([self.arm, self.data, self.network, self.mode, *filter(None, more)])

    @property
    def model(self) -> str:
        """Name, in fingerprints and similarities, of the network that its first trial fine-tuned."""
        return f"{self.name}~trial0"

    @property
    def has_objects(self) -> bool:
        """Whether objects are found, in place of classes of pixels."""
        return bool(LABELLED[self.data].get("objects"))

    @property
    def base(self) -> "Case":
        """The case whose learning rate it uses; linear probes of a vision transformer have one of their own.

        >>> Case.of("mae~voc~linear~frozen").base.name, Case.of("mae~voc~dpt~frozen").base.name
        ('mae~voc~linear~frozen', 'mae~voc~dpt~all')
        """
        if self.has_objects:
            return Case(self.arm, self.data, self.network)
        if network := DECLARATIONS["network_of"].get(self.arm):
            probe = self.network == "linear"
            return Case(self.arm, self.data, "linear" if probe else network, "frozen" if probe else "all")
        return Case(self.arm, self.data, LABELLED[self.data].get("network", "skip"))


TABLES = {name: tuple(map(Case.of, cases)) for name, cases in DECLARATIONS["tables"].items()}
"""The cases of each table or figure; a scale may run only some of them."""

MAIN = ("none", "classification", "video", "video_classification")
"""The arms of Table 1, of which Figure 6 shows the maps."""

ALL = tuple(table for table in TABLES if table != "quirks")
"""The tables that a study can select; `quirks` comes with the protocol "released"."""


@dataclass(frozen=True)
class Scale:
    """How large a study is; `paper.toml` says what each key means."""

    pre: str
    segment: str
    rates: tuple[float, ...]
    scenes: Mapping[str, Settings] = field(default_factory=dict)
    tables: tuple[str, ...] = ALL
    without: tuple[str, ...] = ()
    trials: int = 4
    rates_of: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    case_keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    largest: int = 128
    tested: int = 90
    num: int = 90
    calibrate: int = 4
    pre_settings: tuple[str, ...] = ()
    segment_settings: tuple[str, ...] = ()
    rehearsal: bool = False

    def with_tables(self, tables: Sequence[str]) -> "Scale":
        """Return the scale with other tables: names in `TABLES` but `quirks`, or "all"."""
        if list(tables) == ["all"]:
            return replace(self, tables=ALL)
        for table in tables:
            registry.get(dict.fromkeys(ALL), table, "table")
        return replace(self, tables=tuple(tables))

    def cases(self, protocol: str = "paper") -> tuple[Case, ...]:
        """Return the cases that are run, each once, in the order of the tables."""
        registry.get(DECLARATIONS["protocols"], protocol, "protocol")
        tables = (case for table in self.tables for case in TABLES[table])
        absent = () if self.rehearsal else [arm for arm in DECLARATIONS["from_files"] if arm not in self.weights]
        without = {*self.without, *absent}
        cases = dict.fromkeys(case for case in tables if case.arm not in without and case.num <= self.largest)
        if protocol == "released":
            arms = {case.arm for case in cases}
            cases |= dict.fromkeys(case for case in TABLES["quirks"] if case.arm in arms)
        return tuple(cases)

    def rates_for(self, case: Case) -> tuple[float, ...]:
        """Return the learning rates that are tried for the arm of a case on its data; a single one is not chosen."""
        tables = (self.rates_of.get(word, {}) for word in (case.network, case.data))
        return tuple(next((table[case.arm] for table in tables if case.arm in table), self.rates))

    def labelled(self, data: str, part: str, paths: Mapping[str, str]) -> str:
        """Return what is fine-tuned on ("train") or tested on ("test"), as `open_dataset` takes it."""
        return LABELLED[data][part].format(**paths, tested=self.tested)

    def keys_of(self, word: str) -> dict[str, Any]:
        """Return what a word of a case sets in the stage of fine-tuning."""
        return DECLARATIONS["case_keys"].get(word, {}) | dict(self.case_keys.get(word, {}))

    @property
    def stand_ins(self) -> tuple[str, ...]:
        """In a rehearsal, the arms whose files untrained encoders stand in for."""
        return tuple(arm for arm in DECLARATIONS["from_files"] if self.rehearsal and arm not in self.without)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that have a case, in the order of `ARMS`."""
        arms = {case.arm for case in self.cases()}
        return tuple(arm for arm in ARMS if arm in arms)


SCALES = read_scales(Scale, DECLARATIONS)


@dataclass(frozen=True)
class SemanticPaths(StudyPaths):
    """Paths of the parts of this study."""

    def pre(self, seed: int) -> Path:
        """Return the folder of the pre-training under a seed."""
        return self.run(seed) / "pre"

    def checkpoint(self, seed: int, arm: str) -> Path:
        """Return the checkpoint that ends an arm's pre-training."""
        return self.pre(seed) / f"{arm}.safetensors"

    def tuned(self, seed: int, case: Case, rate: float, trial: int) -> Path:
        """Return the folder of one fine-tuning."""
        return self.run(seed) / "tuned" / case.name / f"{rate:g}" / f"trial{trial}"

    def rates_file(self, seed: int) -> Path:
        """Return the file with the chosen learning rate of each base case."""
        return self.run(seed) / "rates.json"

    def rates(self, seed: int) -> dict[str, Any]:
        """Return {base case: {"rate", "tried", "measure"}}; {} if none was chosen."""
        path = self.rates_file(seed)
        rates = read_object(path, "the chosen learning rates") if path.exists() else {}
        if broken := [name for name, entry in rates.items() if not isinstance(entry, dict) or "rate" not in entry]:
            raise DataError(f"{path}: expected the chosen learning rates, found none for {broken[0]}; delete it")
        return rates

    def rate(self, seed: int, case: Case) -> float | None:
        """Return the learning rate that was chosen for a case, or `None`."""
        entry = self.rates(seed).get(case.base.name)
        return None if entry is None else float(entry["rate"])

    def tried(self, seed: int, case: Case) -> dict[str, Any]:
        """Return the held-out value of each learning rate that was tried for a case; {} if none was chosen."""
        return self.rates(seed).get(case.base.name, {}).get("tried", {})

    def fingerprint(self, seed: int, model: str, features: str = "flatten") -> Path:
        """Return the fingerprint of a model."""
        return self.run(seed) / "fingerprints" / f"{model}.safetensors"

    def gradcam(self, seed: int) -> Path:
        """Return the file on how well the maps of first trials follow the outlines of classes."""
        return self.run(seed) / "gradcam" / "gradcam.json"

    def maps(self, seed: int, case: str) -> Path:
        """Return the file of a case's maps that are drawn."""
        return self.gradcam(seed).with_name(f"{case}.npz")

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> Path:
        """Return the file of the similarity of two models."""
        return self.run(seed) / "similarity" / f"{x}~~{y}.json"


def tuned(arm: str, mode: str = "all") -> str:
    """Return the name of an arm's fine-tuned network among the models that are compared; mode "all" or "frozen"."""
    registry.get(ARMS, arm, "arm")
    return replace(Case(arm, DATA_OF.get(arm, "kitti")).base, mode=mode).model


def model_order(model: str) -> tuple[bool, int]:
    """Return the key by which models are sorted: arms as they were pre-trained, then fine-tuned networks."""
    arm, *case = model.split("~")
    return bool(case), list(ARMS).index(arm)


@dataclass(frozen=True)
class SemanticEvidence(StudyEvidence):
    """A study of Depth-to-Semantic on disk."""

    paths: SemanticPaths
    _maps: dict[Path, Attributions | None] = field(default_factory=dict, repr=False)
    _scores: dict[tuple[Case, RunKey], CaseScores | None] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> "SemanticEvidence":
        """Open a study.

        Raises:
            DataError: There is none, or study.json is missing, broken or of another paper.
        """
        paths = SemanticPaths(Path(folder))
        seeds = find_seeds(paths.folder)
        finished = [
            path.parent.name.removeprefix("trial")
            for path in paths.folder.glob("seed*/tuned/*/*/trial*/*.json")
            if path.name in ("scores.json", DIVERGED)
        ]
        trials = tuple(sorted({int(number) for number in finished if number.isdecimal()})) or (0,)
        return cls(paths, seeds, trials, read_study(paths.folder, "depth-to-semantic"))

    def run_folder(self, case: Case, run: RunKey) -> Path | None:
        """Return the folder of a run, or `None` while no learning rate is chosen for it."""
        rate = self.paths.rate(run.seed, case)
        return None if rate is None else self.paths.tuned(run.seed, case, rate, run.trial)

    def diverged(self, case: Case, run: RunKey) -> bool:
        """Return whether the loss of a run stopped being a number."""
        folder = self.run_folder(case, run)
        return folder is not None and (folder / DIVERGED).exists()

    def training_scores(self, case: Case, run: RunKey) -> LabelScores | None:
        """Return the scores of a run on the images that it was trained on, or `None` if they were not computed."""
        folder = self.run_folder(case, run)
        path = None if folder is None else folder / TRAINING_SCORES
        return LabelScores.load(path) if path is not None and path.exists() else None

    def scores(self, case: Case, run: RunKey) -> CaseScores | None:
        """Return the scores of a run on the test images, or `None` if it was not run or has diverged.

        Raises:
            DataError: The file is broken, of other test images than those of the same data, or of a run on
                other training images than the others of its trial.
        """
        if (case, run) in self._scores:
            return self._scores[case, run]
        folder = self.run_folder(case, run)
        if folder is None or not (path := folder / "scores.json").exists():
            return self._scores.setdefault((case, run), None)
        scores: CaseScores = (DetectionScores if case.has_objects else LabelScores).load(path)
        self._check_same((f"test images of {case.data}",), scores.data.get("hash"), path)
        recipe, trial = folder / "recipe.json", (str(run.seed), f"trial {run.trial}")
        seed = read_run_recipe(recipe, "the recipe of a fine-tuning").get("seed")
        self._check_same(("drawn training images", *trial), seed, recipe)
        return self._scores.setdefault((case, run), scores)

    def predictions(self, case: Case, run: RunKey) -> Path | None:
        """Return the folder of what a scored run predicted of the test images, or `None` if it was not kept."""
        folder = self.run_folder(case, run)
        if folder is None or not (folder / "predictions" / NOTE).exists() or self.scores(case, run) is None:
            return None
        return folder / "predictions"

    def curves(self, case: Case, run: RunKey) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """Return a run's training log and what was measured on held-out images meanwhile; `None` where not run."""
        if (folder := self.run_folder(case, run)) is None:
            return None, None
        return read_curves(folder / SEGMENT)

    def pretraining(self, seed: int, arm: str) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """Return the training log of an arm and what was measured on held-out data; `None` where not run."""
        return read_curves(self.paths.pre(seed) / arm)

    def stages(self, seed: int) -> dict[str, Any]:
        """Return the stages of the recipe of pre-training, by arm; {} if it was not run."""
        path = self.paths.pre(seed) / "recipe.json"
        return read_run_recipe(path, "the recipe of pre-training").get("stages", {}) if path.exists() else {}

    def tuning(self) -> dict[str, Any]:
        """Return the recipe of a fine-tuning of the study, the first by name; {} if there is none."""
        recipes = sorted(self.paths.folder.glob("seed*/tuned/*/*/trial*/recipe.json"))
        return read_run_recipe(recipes[0], "the recipe of a fine-tuning") if recipes else {}

    def recipe(self, case: Case) -> dict[str, Any]:
        """Return the recipe of the first run of a case; {} if it was not run."""
        folders = [self.run_folder(case, run) for run in self.runs]
        paths = [folder / "recipe.json" for folder in folders if folder is not None]
        path = next((path for path in paths if path.exists()), None)
        return {} if path is None else read_run_recipe(path, "the recipe of a fine-tuning")

    def num(self, case: Case) -> int | None:
        """Return how many images a case was trained on, or `None` if that is all, or it was not run."""
        return self.recipe(case).get("stages", {}).get(SEGMENT, {}).get("num") or None

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> SimilarityMatrix | None:
        """Return the similarity of two models, that of the earlier arm on the rows, or `None`.

        A model is an arm or the name of a fine-tuned network (`tuned`). There is one variant.
        """
        return super().similarity(seed, *sorted((x, y), key=model_order))

    def arm_similarity(self, seed: int, x: str, y: str, when: str) -> SimilarityMatrix | None:
        """Return the similarity of two arms "before" or "after" fine-tuning, or `None`."""
        models = (x, y) if when == "before" else (tuned(x), tuned(y))
        return self.similarity(seed, *models)

    def gradcam(self, seed: int) -> Attributions | None:
        """Return how well the maps of a seed's first trials follow outlines, or `None` if there are no maps.

        Raises:
            DataError: The file is broken, or of other weights or test images than were scored.
        """
        path = self.paths.gradcam(seed)
        if path not in self._maps:
            result = self._maps[path] = Attributions.load(path) if path.exists() else None
            if result is not None:
                self._check_maps(result, seed, path)
        return self._maps[path]

    def _check_maps(self, result: Attributions, seed: int, path: Path) -> None:
        """Raise unless maps are of the weights and test images that were scored."""
        run = RunKey(seed)
        for name in result.models:
            case = Case(name.split("~")[0])
            fact, folder = ("tuned weights", str(seed), case.name), self.run_folder(case, run)
            if folder is not None and (scores := self.scores(case, run)) is not None:
                self._check_same(fact, scores.model["hash"], folder / "scores.json")
            self._check_same(fact, result.models[case.name]["hash"], path)
        self._check_same(("test images of kitti",), result.data.get("hash"), path)
