"""Draw whatever files are given, by what they are: results, differences of two, or runs of training.

One result: its figures (`FIGURES`). Several, or one with something to emphasise: `layer_grid`. A difference that was
saved: `difference`. Runs: `curves_<stage>` of every stage that one of them has.
"""

from collections.abc import Sequence
from pathlib import Path

from cka_probe.comparison.results import DIFFERENCE_FORMAT, DifferenceMatrix, SimilarityMatrix
from cka_probe.errors import DataError, OutputError
from cka_probe.plotting import check_format, figures_for, save_figure
from cka_probe.plotting.curves import Curves, save_curves
from cka_probe.plotting.difference import save_difference
from cka_probe.plotting.layer_grid import LayerGrid, save_layer_grid
from cka_probe.plotting.runs import read_runs

RESULT = "result.json"
"""Of `ckaprobe compare`, in its folder."""


def redraw(
    files: Sequence[str | Path],
    out: str | Path | None = None,
    suffixes: Sequence[str] = ("png", "pdf"),
    *,
    figures: Sequence[str] = (),
    emphasis: str | None = None,
    titles: Sequence[str] = (),
    style: str = "paper",
    venue: str | None = None,
) -> list[Path]:
    """Draw files and return the paths written.

    Args:
        files: Results (`*.json`, or their folders) or one difference (`*.json`), or runs: folders of `ckaprobe train`,
            of one of its stages, or `log.csv` files.
        out: Folder to write to; by default that of the first file.
        suffixes: Formats.
        figures: Of one result; by default all that apply.
        emphasis: "row" or "diagonal": what is read of results side by side.
        titles: One for each result side by side.
        style: As for `save_drawing`.
        venue: As for `save_drawing`.

    Raises:
        DataError: Results among runs, a file that is neither, or options that are not for what is drawn.
        UnknownNameError: No such figure, emphasis, style or venue.
        OutputError: A format that is none, a place that cannot be written to, or a venue that is too narrow.
    """
    places = [_place(Path(file)) for file in files]
    runs = [place for place in places if place.is_dir() or place.suffix == ".csv"]
    grid = not runs and (len(places) > 1 or emphasis is not None or bool(titles))
    if "difference" in figures and not (len(places) == 1 and _is_difference(places[0])):
        raise DataError(f"--figure difference is of two results, with no other and no --emphasis; found {len(places)}")
    _check(len(places), len(runs), suffixes, figures=figures if runs or grid else (), of_results=(emphasis, *titles))
    folder = Path(out) if out is not None else places[0] if places[0].is_dir() else places[0].parent

    def paths(name: str) -> list[Path]:
        return [folder / f"{name}.{suffix}" for suffix in suffixes]

    if runs:
        drawn = {f"curves_{stage}": Curves(stage_runs, stage) for stage, stage_runs in read_runs(runs).items()}
        written = (save_curves(stage, paths(name), style=style, venue=venue) for name, stage in drawn.items())
        return [path for of_stage in written for path in of_stage]
    if len(places) == 1 and _is_difference(places[0]):
        if set(figures) - {"difference"} or grid:
            raise DataError(
                f"{places[0]} is a difference, which has one figure; leave out --figure and what is emphasised"
            )
        return save_difference(DifferenceMatrix.load(places[0]), paths("difference"), style=style, venue=venue)
    results = [SimilarityMatrix.load(place) for place in places]
    if grid:
        drawn_grid = LayerGrid(results, titles, emphasis, spread=emphasis is not None)
        return save_layer_grid(drawn_grid, paths("layer_grid"), style=style, venue=venue)
    names = figures or figures_for(results[0])
    return [path for name in names for path in save_figure(results[0], name, paths(name), style=style, venue=venue)]


def _place(given: Path) -> Path:
    """Return the file of a result whose folder is given; runs stay folders."""
    return given / RESULT if (given / RESULT).is_file() else given


def _is_difference(place: Path) -> bool:
    """Return whether a file begins as one that `DifferenceMatrix.save` wrote; what cannot be read is refused later."""
    try:
        with place.open(encoding="utf-8") as file:
            return DIFFERENCE_FORMAT in file.read(len(DIFFERENCE_FORMAT) + 40)
    except (OSError, UnicodeDecodeError):
        return False


def _check(
    places: int, runs: int, suffixes: Sequence[str], *, figures: Sequence[str], of_results: Sequence[str | None]
) -> None:
    """Refuse what does not go together, before anything is read."""
    if not places or 0 < runs < places:
        raise DataError(f"expected results or runs, found {runs} runs among {places} files; draw one kind at a time")
    if figures:
        raise DataError("--figure is for one result; leave it out for results side by side and for runs")
    if runs and any(of_results):
        raise DataError("--emphasis and --title are for results; leave them out for runs")
    if not suffixes:
        raise OutputError("expected a format to write, found none; choose png, pdf or svg")
    for suffix in suffixes:
        check_format(f"figure.{suffix}")
