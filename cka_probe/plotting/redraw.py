"""Draw files by what they are: results of comparisons, differences of two, or runs of training."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cka_probe import registry
from cka_probe.comparison.atlas import FILE as ATLAS
from cka_probe.comparison.atlas import Atlas
from cka_probe.comparison.results import DIFFERENCE_FORMAT, DifferenceMatrix, SimilarityMatrix
from cka_probe.errors import DataError, OutputError
from cka_probe.plotting import FIGURES, Figure, Heatmap, check_format, figures_of, save
from cka_probe.plotting.atlas import ATLAS_FIGURES
from cka_probe.plotting.curves import Curves
from cka_probe.plotting.heatmap import Difference
from cka_probe.plotting.layer_grid import LayerGrid
from cka_probe.plotting.matrix import ColourScale
from cka_probe.plotting.runs import read_runs

FILE = "result.json"
"""File of a result, in the folder of `ckaprobe compare`."""
COLOURS = "--cmap, --vmin and --vmax"
RUNS, MODELS, DIFFERENCE = "runs", "several models", "a difference, which has one figure"
RESULT, RESULTS = "one result", "results side by side"
OPTIONS = {
    RUNS: (),
    MODELS: ("--figure",),
    DIFFERENCE: (),
    RESULT: ("--figure", COLOURS),
    RESULTS: ("--emphasis", "--title", COLOURS),
}
"""The options of what is drawn."""


def redraw(
    files: Sequence[str | Path],
    out: str | Path | None = None,
    suffixes: Sequence[str] = ("png", "pdf"),
    *,
    figures: Sequence[str] = (),
    emphasis: str | None = None,
    titles: Sequence[str] = (),
    scale: ColourScale | None = None,
    style: str = "paper",
    venue: str | None = None,
) -> list[Path]:
    """Draw files and return the paths written.

    One result gives its figures (`FIGURES`); several models that were compared with each other theirs
    (`ATLAS_FIGURES`); several results, or one with something to emphasise, a `LayerGrid`; a saved
    difference a `Difference`; runs `curves_<stage>` for every stage that one of them has.

    Args:
        files: Results (`*.json`, or their folders), one `atlas.json` (or its folder) or one difference (`*.json`), or
            runs: folders of `ckaprobe train`, of one of its stages, or `log.csv` files.
        out: Folder to write to; by default that of the first file.
        suffixes: Formats.
        figures: Of one result or several models; by default all that apply.
        emphasis: "row" or "diagonal": what is read of results side by side.
        titles: One for each result side by side.
        scale: Colours of heatmaps and of results side by side; by default those of the range of the measure.
        style: As for `save`.
        venue: As for `save`.

    Raises:
        DataError: Results among runs, a file that is neither, or options that do not fit what is drawn.
        UnknownNameError: No such figure, emphasis, style or venue.
        OutputError: A suffix that is not a format, a path that cannot be written to, or a venue that is too narrow.
    """
    paths = [
        next((path / name for name in (FILE, ATLAS) if (path / name).is_file()), path) for path in map(Path, files)
    ]
    folder = Path(out) if out is not None else paths[0] if paths and paths[0].is_dir() else Path(*paths[:1]).parent
    if not suffixes:
        raise OutputError("expected a format to write, found none; choose png, pdf or svg")
    for suffix in suffixes:
        check_format(f"figure.{suffix}")
    written = []
    for name, figure in _figures(paths, figures, emphasis, titles, scale).items():
        written += save(figure, [folder / f"{name}.{suffix}" for suffix in suffixes], style=style, venue=venue)
    return written


def _figures(
    paths: Sequence[Path],
    names: Sequence[str],
    emphasis: str | None,
    titles: Sequence[str],
    scale: ColourScale | None,
) -> dict[str, Figure]:
    """Return the figures of files by name."""
    kind = _kind(paths, side_by_side=len(paths) > 1 or emphasis is not None or bool(titles))
    if kind == DIFFERENCE:
        names = [name for name in names if name != "difference"]
    elif "difference" in names:
        raise DataError(f"--figure difference is of two results, with no other and no --emphasis; found {len(paths)}")
    options = {"--figure": names, "--emphasis": emphasis, "--title": titles, COLOURS: scale}
    if wrong := [name for name, value in options.items() if value and name not in OPTIONS[kind]]:
        raise DataError(f"expected no {', '.join(wrong)} for {kind}, found some; omit them")
    if scale is not None and names and "heatmap" not in names:
        raise DataError(f"{COLOURS} are for heatmaps; omit them for other figures")
    if kind == RUNS:
        return {f"curves_{stage}": Curves(runs, stage) for stage, runs in read_runs(paths).items()}
    if kind == MODELS:
        return _figures_of(Atlas.load(paths[0]), ATLAS_FIGURES, names)
    if kind == DIFFERENCE:
        return {"difference": Difference(DifferenceMatrix.load(paths[0]))}
    results = [SimilarityMatrix.load(path) for path in paths]
    if kind == RESULTS:
        grid = LayerGrid(results, titles, emphasis, rms=emphasis is not None, scale=scale or ColourScale())
        return {"layer_grid": grid}
    figures = _figures_of(results[0], FIGURES, names)
    if scale is not None:
        figures["heatmap"] = Heatmap(results[0], scale.vmin, scale.vmax, scale.cmap)
    return figures


def _figures_of(result: Any, figures: Mapping[str, Callable[[Any], Figure]], names: Sequence[str]) -> dict[str, Figure]:
    """Return some of the figures of a result, by default all that can be drawn."""
    return {name: registry.get(figures, name, "figure")(result) for name in names} or figures_of(result, figures)


def _kind(paths: Sequence[Path], *, side_by_side: bool) -> str:
    """Return what files are, a key of `OPTIONS`."""
    runs = [path for path in paths if path.is_dir() or path.suffix == ".csv"]
    if not paths or 0 < len(runs) < len(paths):
        raise DataError(
            f"expected results or runs, found {len(runs)} runs among {len(paths)} files; draw one kind at a time"
        )
    if runs:
        return RUNS
    if len(paths) == 1 and paths[0].name == ATLAS:
        return MODELS
    if len(paths) == 1 and _is_difference(paths[0]):
        return DIFFERENCE
    return RESULTS if side_by_side else RESULT


def _is_difference(path: Path) -> bool:
    """Return whether a file begins as a saved difference does; a file that cannot be read is refused later."""
    try:
        with path.open(encoding="utf-8") as file:
            return DIFFERENCE_FORMAT in file.read(len(DIFFERENCE_FORMAT) + 40)
    except (OSError, UnicodeDecodeError):
        return False
