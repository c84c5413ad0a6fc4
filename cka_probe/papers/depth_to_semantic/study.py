"""What a study of Depth-to-Semantic consists of (`paper.toml`): arms, cases, scales, and its paths.

An *arm* is one way of pre-training the encoder. A *case* is one way of fine-tuning an arm for semantic segmentation,
and is run several times (*trials*): each trial draws another training set, another head, another order of images.
The learning rate is chosen for each arm and data set by trying a few on held-out images (`Case.base`), and all other
cases of that arm on that data use it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.lab.scenes import Settings
from cka_probe.papers.study import StudyPaths, read_declarations, read_scales

DECLARATIONS = read_declarations(Path(__file__).with_name("paper.toml"))
ARMS, QUIRKS, LABELLED = (DECLARATIONS[name] for name in ("arms", "quirks", "labelled"))

NONE = "none"
"""The arm without pre-training."""

CASE_WORDS = {
    word: attribute
    for attribute, table in {"data": "labelled", "network": "networks", "mode": "modes", "size": "sizes"}.items()
    for word in DECLARATIONS[table]
}
"""Words in the name of a case, and which attribute of it they are."""

SEGMENT = "segment"
"""The one stage of the segmentation recipe."""

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
        quirks: In `QUIRKS`.
    """

    arm: str
    data: str = "kitti"
    network: str = "skip"
    mode: str = "all"
    num: int = 0
    size: str = ""
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
        more = [f"n{self.num}" if self.num else "", self.size, *quirks]
        return "~".join([self.arm, self.data, self.network, self.mode, *filter(None, more)])

    @property
    def model(self) -> str:
        """Name, in fingerprints and similarities, of the network that its first trial fine-tuned."""
        return f"{self.name}~trial0"

    @property
    def base(self) -> "Case":
        """The case whose learning rate it uses."""
        return Case(self.arm, self.data)


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
    tested: int = 90
    num: int = 90
    calibrate: int = 4
    pre_settings: tuple[str, ...] = ()
    segment_settings: tuple[str, ...] = ()

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
        cases = dict.fromkeys(case for case in tables if case.arm not in self.without)
        if protocol == "released":
            arms = {case.arm for case in cases}
            cases |= dict.fromkeys(case for case in TABLES["quirks"] if case.arm in arms)
        return tuple(cases)

    def labelled(self, data: str, part: str, paths: Mapping[str, str]) -> str:
        """Return what is fine-tuned on ("train") or tested on ("test"), as `open_dataset` takes it."""
        return LABELLED[data][part].format(**paths, tested=self.tested)

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

    def rates(self, seed: int) -> Path:
        """Return the file with the chosen learning rate of each base case."""
        return self.run(seed) / "rates.json"

    def rate(self, seed: int, case: Case) -> float | None:
        """Return the learning rate that was chosen for a case, or `None`."""
        path = self.rates(seed)
        if not path.exists():
            return None
        try:
            entry = json.loads(path.read_text("utf-8")).get(case.base.name)
            return None if entry is None else float(entry["rate"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected the chosen learning rates, found: {error}; delete it") from error

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
