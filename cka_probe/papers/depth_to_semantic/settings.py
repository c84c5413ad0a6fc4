"""What `--set` may change in a study, sorted by whom it is for.

data.NAME=PATH                 data of your own
pre.STAGE.KEY=VALUE            the recipe of pre-training
segment.KEY=VALUE              the recipe of fine-tuning, for all cases
architecture=NAME, options.KEY=VALUE    both
rates=[1e-4, 1e-3]             the learning rates that are tried
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cka_probe.errors import RecipeError
from cka_probe.lab.training.tables import parse_value
from cka_probe.papers.depth_to_semantic.scales import Scale
from cka_probe.papers.depth_to_semantic.study_paths import SEGMENT

OURS = {
    "seed": "the study's seeds are 0, 1, …; say --seeds",
    "start": "it is the arm's",
    "lr": "it is chosen for each arm; say rates=[…]",
    "freeze": "it is the case's",
    "reset_head": "it is the case's",
    "data": "say data.kitti_labels=PATH",
    "options.network": "it is the case's",
    "options.classes": "they are the data's",
    "options.subset": "they are the data's",
}
"""Keys that a study sets itself, and what to do instead."""


@dataclass(frozen=True)
class Given:
    """What a user has changed.

    Attributes:
        data: Paths by name.
        pre: `--set` of the recipe of pre-training.
        segment: And of that of fine-tuning.
        rates: Learning rates to try; () are the scale's.
    """

    data: dict[str, str]
    pre: list[str]
    segment: list[str]
    rates: tuple[float, ...] = ()

    def applied(self, scale: Scale) -> Scale:
        """Return the scale with the learning rates that are asked for."""
        return replace(scale, rates=self.rates) if self.rates else scale


def read_settings(settings: Sequence[str]) -> Given:
    """Sort `KEY=VALUE`s.

    Raises:
        RecipeError: A key is none of these, or is one that the study sets itself.
    """
    given = Given({}, [], [])
    for text in settings:
        key, equals, value = text.partition("=")
        part, _, rest = key.strip().partition(".")
        if equals and part == "data" and rest:
            given.data[rest] = value.strip().strip("\"'")
        elif equals and part == "pre" and rest:
            _refuse_ours(rest, text, ("seed", "data"))
            given.pre.append(f"{rest}={value}")
        elif equals and part == SEGMENT and rest:
            _refuse_ours(rest, text, tuple(OURS))
            given.segment.append(text)
        elif equals and part in ("architecture", "options"):
            given.pre.append(text)
            given.segment.append(text)
        elif equals and key.strip() == "rates":
            given = replace(given, rates=_rates(value))
        else:
            raise RecipeError(
                f"--set {text}: expected data.NAME=PATH, pre.STAGE.KEY=VALUE, {SEGMENT}.KEY=VALUE, architecture=NAME "
                "or rates=[NUMBER, …]"
            )
    return given


def _refuse_ours(key: str, text: str, keys: tuple[str, ...]) -> None:
    for ours in keys:
        if key == ours or key.startswith(f"{ours}."):
            raise RecipeError(f"--set {text}: the study sets this itself; {OURS[ours]}")


def _rates(text: str) -> tuple[float, ...]:
    """Return learning rates out of TOML."""
    found = parse_value(text)
    found = found if isinstance(found, list) else [found]
    if not found or not all(isinstance(rate, int | float) and rate > 0 for rate in found):
        raise RecipeError(f"--set rates={text}: expected numbers above 0 as in rates=[1e-4, 1e-3]")
    return tuple(dict.fromkeys(float(rate) for rate in found))
