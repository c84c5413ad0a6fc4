"""`ckaprobe compare`: the similarity of the layers of two or more models over the same images."""

from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.commands import is_main
from ckaprobe_cli.options import (
    IMAGES,
    MODEL,
    MODELS,
    OUTPUT,
    RUN,
    SIMILARITY,
    Arch,
    Base,
    BatchOrAll,
    Cmap,
    Data,
    DecodeSize,
    Device,
    Encoder,
    Features,
    Force,
    ForwardBatch,
    Layers,
    Memory,
    Num,
    NumFeatures,
    Precision,
    Quiet,
    Readers,
    Seed,
    Size,
    SkipBad,
    Vmax,
    Vmin,
    drop_none,
    option,
    with_encoder,
)
from ckaprobe_cli.results_folder import results_folder

RESULT, ATLAS, STRIP, STRIP_Y = "result.json", "atlas.json", "images.jpg", "images_y.jpg"
INFLUENTIAL, READ = "influential.jpg", 4096
"""The images that carry some cell, and how many images are read again for them at most."""

if TYPE_CHECKING:
    from cka_probe.comparison.fingerprint import Fingerprint, Settings
    from cka_probe.comparison.results import SimilarityMatrix
    from cka_probe.plotting.matrix import ColourScale


def compare(
    ctx: typer.Context,
    models: Annotated[list[str], typer.Argument(help=f"X and Y, or more. Each: {MODEL[0].lower()}{MODEL[1:]}")],
    out: Annotated[Path | None, option("Folder to write to; required without --plan.", OUTPUT)] = None,
    data: Data = None,
    data_y: Annotated[
        str | None,
        option("Other images for Y, such as noisy ones, each paired with one of X.  [default: those of X]", IMAGES),
    ] = None,
    pair: Annotated[
        str | None,
        option("Pair images of X and Y by name (path without suffix) or order.  [default: name, of folders]", IMAGES),
    ] = None,
    num: Num = None,
    batch: BatchOrAll = None,
    layers: Layers = None,
    layers_y: Annotated[str | None, option("Layers of Y, where they differ; of two models.", MODELS)] = None,
    seed: Seed = None,
    features: Features = None,
    num_features: NumFeatures = None,
    measure: Annotated[
        str,
        option("Of `ckaprobe measures`; several with commas, the others to OUT/measures.", SIMILARITY),
    ] = "cka",
    estimator: Annotated[
        str, option("Estimator of CKA: unbiased, biased or (sampled features) doubly_unbiased.", SIMILARITY)
    ] = "unbiased",
    permutations: Annotated[int, option("Number of permutations for the null; 0: none.", SIMILARITY, min=0)] = 200,
    until: Annotated[
        float | None,
        option("Add images until every interval is at most ± so much, such as 0.01; at most --num.", SIMILARITY),
    ] = None,
    groups: Annotated[
        str | None,
        option(
            "Images that are not independent, for intervals and null: a CSV file with the columns name and group, or "
            "folder for those of a folder; of two models.",
            SIMILARITY,
        ),
    ] = None,
    merge_duplicates: Annotated[
        bool, option("Use one image of each group of copies; of two models.", SIMILARITY, "--merge-duplicates")
    ] = False,
    preprocess: Annotated[
        str | None,
        option("own (each model its size and normalisation) or shared (those of X).  [default: own]", IMAGES),
    ] = None,
    precision: Precision = None,
    size: Size = None,
    arch: Arch = None,
    arch_y: Annotated[str | None, option("Architecture of Y, where it differs; auto to find it.", MODELS)] = None,
    encoder: Encoder = None,
    base: Base = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    workers: Readers = None,
    forward_batch: ForwardBatch = None,
    memory: Memory = None,
    decode_size: DecodeSize = None,
    keep: Annotated[
        bool, option("Save the fingerprints of the models in OUT.", OUTPUT, "--fingerprints/--no-fingerprints")
    ] = True,
    cmap: Cmap = None,
    vmin: Vmin = None,
    vmax: Vmax = None,
    force: Force = False,
    quiet: Quiet = False,
    plan: Annotated[
        bool, option("Print what it will cost, from a short trial, and write nothing.", RUN, "--plan")
    ] = False,
) -> None:
    """Compare the layers of two models, or of every two of more.

    Writes result.json, result.csv, result.tex (tables for an appendix), the figures as PNG and PDF, the fingerprints
    of both models and a strip of the first images. Prints the table of the diagonal, warnings, and the paths written.

    Of three or more models: atlas.json, pairs.csv and the figure of the matrix of models; a folder of each pair; and
    if they have the same layers, curves of each layer over the models in their order, such as checkpoints of a run.

    \b
    Example:
      ckaprobe compare a.pth b.pth --data images --out a_b
    """
    from cka_probe.comparison.advice import extract_until
    from cka_probe.comparison.compare import check_sampling, compare_all_images
    from cka_probe.comparison.features import is_features
    from cka_probe.comparison.fingerprint import is_fingerprint
    from cka_probe.comparison.groups import omitted_copies
    from cka_probe.comparison.sides import Images, Options, extract_pair, fingerprint_each
    from cka_probe.errors import DataError
    from cka_probe.plotting.matrix import ColourScale
    from cka_probe.similarity import choose_measure

    _check_number(
        models,
        layers_y=layers_y,
        arch_y=arch_y,
        data_y=data_y,
        pair=pair,
        cmap=cmap,
        vmin=vmin,
        vmax=vmax,
        batch="all" if batch == "all" else None,
        until=None if until is None else str(until),
        num_features=None if num_features is None else str(num_features),
        groups=groups,
        merge_duplicates="" if merge_duplicates else None,
    )
    if batch == "all" and (groups is not None or merge_duplicates):
        raise DataError("--groups and --merge-duplicates need Grams: give --batch the number of images, not all")
    scale = ColourScale(vmin, vmax, **drop_none(cmap=cmap))
    methods = _methods(measure, estimator, permutations, scale)
    models = [
        model if is_fingerprint(model) or is_features(model) else with_encoder(model, encoder) for model in models
    ]
    everything = batch == "all"
    if everything and len(methods) > 1:
        raise DataError(f"expected the measure cka for one batch of all images, found {measure}; omit the others")
    options = Options(
        base=base,
        device=device,
        skip_bad=skip_bad,
        workers=workers,
        forward_batch=forward_batch,
        memory=memory,
        **drop_none(
            num=num,
            batch=_number(batch),
            seed=seed,
            features=features,
            num_features=num_features,
            precision=precision,
            preprocess=preprocess,
            size=size,
            decode_size=decode_size,
        ),
    )
    for method in methods:
        measured = choose_measure(method["measure"], method["estimator"])
        check_sampling(models, options.num_features, measured, method["estimator"], everything)
    if num_features is not None and (until is not None or groups is not None or merge_duplicates):
        raise DataError("expected all features for --until, --groups and --merge-duplicates; omit --num-features")
    if plan:
        from cka_probe.comparison.plan import plan as plan_of

        if is_main():
            sides_of_y = {"images_y": data_y, "pair": pair, "layers_y": layers_y, "arch_y": arch_y}
            cost = plan_of(models, data, layers=layers, arch=arch, everything=everything, options=options, **sides_of_y)
            typer.echo(cost)
        return
    if until is not None and (everything or all(map(is_fingerprint, models))):
        raise DataError("--until needs a model to run on more images in batches, found none; omit it")
    if out is None:
        raise DataError("expected a folder to write to, found none; give --out, or --plan to write nothing")
    several = len(models) > 2
    if keep and not several:
        _check_kept(models, out, merge_duplicates)
    result, rival = (ATLAS, RESULT) if several else (RESULT, ATLAS)
    with results_folder(ctx, out, result, force=force, rivals=[rival]) as replaces:
        with progress_bar("images", quiet or not is_main()) as progress:
            options = replace(options, progress=progress)
            sides: Sequence[Fingerprint] = ()
            images = Images(data, data_y, pair)
            selection = (layers, layers_y), (arch, arch_y)
            if everything:
                total = compare_all_images(models[0], models[1], images, *selection, options, **methods[0], folder=out)
            elif several:
                sides = fingerprint_each(models, data, layers=layers, arch=arch, options=options)
            elif until is not None:
                sides, widest = extract_until(
                    until,
                    lambda count: extract_pair(models[0], models[1], images, *selection, replace(options, num=count)),
                    most=num,
                    **methods[0],
                )
                options = replace(options, num=sides[0].settings.num)
                if is_main():
                    typer.echo(f"note     {len(sides[0].images)} images give intervals of at most ± {widest:.4f}.")
            else:
                sides = extract_pair(models[0], models[1], images, *selection, options)
        if not is_main():
            return
        if replaces:
            _remove_files(out, [Path(model).resolve() for model in models])
        if groups is not None:
            labels = _labels(groups, data, options.settings(sides[:1]), sides)
            methods = [method | {"groups": labels} for method in methods]
        if merge_duplicates:
            methods = [method | {"merge_duplicates": True} for method in methods]
        if everything:
            paths = save_result(out, total, scale)
            if keep:
                typer.echo("note     No fingerprints are saved of one batch of all images.")
        else:
            runs = not all(is_fingerprint(model) or is_features(model) for model in models)
            named = data if runs and data_y is None else None
            if several:
                paths = _save_atlas(out, sides, keep, methods[0], quiet, named)
                for method in methods[1:]:
                    paths += _save_atlas(_measure_folder(out, method), sides, False, method, quiet, named)
            else:
                paths = _save_pair(out, sides, keep, methods, None if data_y else pair, scale, named)
        if not all(is_fingerprint(model) or is_features(model) for model in models):
            settings = options.settings(sides[:1])
            omitted = omitted_copies(sides[0], sides[1]) if merge_duplicates else set()
            paths += _save_strips(out, data, data_y, pair, settings, skip_bad, omitted)
            alone = data_y is None and num_features is None and groups is None
            if keep and alone and len(sides) == 2 and methods[0]["measure"] == "cka":
                paths += _save_influential(out, data, sides, estimator, settings, skip_bad, omitted)
    typer.echo("\n".join(map(str, paths)))


def _methods(measures: str, estimator: str, permutations: int, scale: "ColourScale") -> list[dict[str, Any]]:
    """Return the arguments of each comparison by one of the measures; the estimator is one of CKA."""
    from cka_probe.similarity import choose_measure

    names = list(dict.fromkeys(name.strip() for name in measures.split(",")))
    methods = [
        {"measure": name, "estimator": estimator if name == "cka" or len(names) == 1 else "unbiased"} for name in names
    ]
    for method in methods:
        scale.ends(choose_measure(**method).range or (0.0, 1.0))  # refused before the work
    return [method | {"permutations": permutations} for method in methods]


def _measure_folder(out: Path, method: dict[str, Any]) -> Path:
    """Return the folder of a further measure, which is created."""
    folder = out / "measures" / str(method["measure"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _labels(groups: str, data: str | None, settings: "Settings", sides: Sequence["Fingerprint"]) -> list[str]:
    """Return the group of each compared image."""
    from cka_probe.comparison.groups import group_labels
    from cka_probe.errors import DataError

    if data is None:
        raise DataError("expected --data with --groups, for the names of the images, found none; give it")
    return group_labels(
        groups, data, num=settings.num, seed=settings.seed, hashes=sides[0].images, decode_size=settings.decode_size
    )


def _number(batch: str | None) -> int | None:
    """Return the number of images in a batch, None for all of them or by default."""
    from cka_probe.errors import DataError

    if batch is None or batch == "all":
        return None
    if not batch.isdecimal():
        raise DataError(f"expected a number of images or all for --batch, found {batch}")
    return int(batch)


def _check_number(models: Sequence[str], **options: str | None) -> None:
    """Raise `DataError` if there are fewer than two models, or an option of two for more."""
    from cka_probe.errors import DataError

    if len(models) < 2:
        raise DataError(f"expected two or more models to compare, found only {models[0]}; give another, or it twice")
    instead = {"layers_y": "use --layers, for all of them", "arch_y": "use --arch, for all of them"}
    instead |= dict.fromkeys(
        ("data_y", "pair", "batch", "until", "num_features", "groups", "merge_duplicates"), "compare two at a time"
    )
    for name, value in options.items():
        if len(models) > 2 and value is not None:
            raise DataError(
                f"--{name.replace('_', '-')} is for two models, found {len(models)}; "
                f"{instead.get(name, 'draw a pair with ckaprobe draw')}"
            )


def _check_kept(models: Sequence[str], out: Path, merged: bool) -> None:
    """Raise `DataError` if a fingerprint that is compared would be replaced by another one."""
    from cka_probe.errors import DataError

    paths = [Path(model).resolve() for model in models]
    for name, path in zip("xy", paths, strict=True):
        saved = (out / f"{name}.fingerprint").resolve()
        if saved in paths and (merged or saved != path):
            raise DataError(
                f"expected another folder than that of {saved.name}, which this comparison would replace, found {out}; "
                "choose another --out, or give --no-fingerprints"
            )


def _save_pair(
    out: Path,
    sides: Sequence["Fingerprint"],
    keep: bool,
    methods: Sequence[dict[str, Any]],
    pair: str | None,
    scale: "ColourScale",
    data: str | None,
) -> list[Path]:
    """Compare two models by each measure, print what a reader should know, and return the paths written.

    Copies among the images are named as in `data`, if that is given.
    """
    import cka_probe
    from cka_probe.comparison.groups import name_copies, without_copies

    paths = []
    for folder, method in zip((out, *(_measure_folder(out, method) for method in methods[1:])), methods, strict=True):
        result = cka_probe.compare_fingerprints(*sides, **method, pair=pair)
        if data is not None:
            result = name_copies({"": result}, data, sides[0])[""]
        paths += save_result(folder, result, scale)
    if keep:
        compared = without_copies(sides[0], sides[1]) if "merge_duplicates" in methods[0] else sides
        paths += [side.save(out / f"{name}.fingerprint") for name, side in zip("xy", compared, strict=True)]
    return paths


def save_result(out: Path, result: "SimilarityMatrix", scale: "ColourScale") -> list[Path]:
    """Print what a reader should know of a comparison, and return the paths written."""
    from cka_probe.comparison.results import notes_of
    from cka_probe.comparison.warnings import warnings_for
    from cka_probe.plotting import Heatmap, figures_of, save

    typer.echo(result.summary())
    for names, note in notes_of({"x": result.x, "y": result.y}):
        typer.echo(f"note on {names}  {note}")
    for warning in warnings_for(result):
        typer.echo(f"warning  {warning}")
    heatmap = Heatmap(result, scale.vmin, scale.vmax, scale.cmap)
    if (limits := heatmap.narrow_range) and result.values.size > 1:
        typer.echo(
            f"hint     All values are between {limits[0]:.3f} and {limits[1]:.3f}; --vmin auto spreads the colours of "
            "the heatmap over them."
        )
    paths = [result.save(out / name) for name in (RESULT, "result.csv", "result.tex")]
    for name, figure in (figures_of(result) | {"heatmap": heatmap}).items():
        paths += save(figure, [out / f"{name}.png", out / f"{name}.pdf"])
    return paths


def _save_atlas(
    out: Path, sides: Sequence["Fingerprint"], keep: bool, method: dict[str, Any], quiet: bool, data: str | None
) -> list[Path]:
    """Compare every two of several models, print what a reader should know, and return the paths written.

    The folder of all pairs and that of all fingerprints stand for the files in them. Copies among the images are named
    as in `data`, if that is given.
    """
    from cka_probe.comparison.atlas import FINGERPRINTS, PAIRS, atlas_of
    from cka_probe.comparison.groups import name_copies
    from cka_probe.comparison.results import notes_of
    from cka_probe.comparison.warnings import atlas_warnings
    from cka_probe.plotting import figures_of, save
    from cka_probe.plotting.atlas import ATLAS_FIGURES

    with progress_bar("pairs", quiet) as progress:
        atlas = atlas_of(sides, progress=progress, **method)
    if data is not None:
        atlas = replace(atlas, results=name_copies(atlas.results, data, sides[0]))
    typer.echo(atlas.summary())
    for names, note in notes_of(dict(zip(atlas.names, atlas.models, strict=True))):
        typer.echo(f"note on {names}  {note}")
    for warning in atlas_warnings(atlas):
        typer.echo(f"warning  {warning}")
    paths = [path for path in atlas.save_folder(out) if path.parent == out]
    for name, figure in figures_of(atlas, ATLAS_FIGURES).items():
        paths += save(figure, [out / f"{name}.png", out / f"{name}.pdf"])
    if keep:
        for index, side in enumerate(sides):
            side.save(out / FINGERPRINTS / f"{index}.fingerprint")
    return [*paths, out / PAIRS, *([out / FINGERPRINTS] if keep else [])]


def _save_strips(
    out: Path,
    data: str | None,
    data_y: str | None,
    pair: str | None,
    settings: "Settings",
    skip_bad: bool,
    omitted: Set[int],
) -> list[Path]:
    """Save the first images, of x and of y if these differ, without those omitted, and return the paths."""
    from cka_probe.images.thumbnails import paired_thumbnails, save_strip, thumbnails

    num, seed = settings.num, settings.seed
    if data_y is None:
        strips: Sequence[list[Any]] = [thumbnails(data, num=num, seed=seed, skip_bad=skip_bad)]
    else:
        strips = paired_thumbnails(data, data_y, pair=pair, num=num, seed=seed, skip_bad=skip_bad)
    rest = [[image for number, image in enumerate(strip) if number not in omitted] for strip in strips]
    return [save_strip(strip, out / name) for strip, name in zip(rest, (STRIP, STRIP_Y), strict=False)]


def _save_influential(
    out: Path,
    data: str | None,
    sides: Sequence["Fingerprint"],
    estimator: str,
    settings: "Settings",
    skip_bad: bool,
    omitted: Set[int],
) -> list[Path]:
    """Save the images that carry some cell, for the page, if they are among the first `READ`, and return the path."""
    from cka_probe.comparison.explanation import influential_images
    from cka_probe.comparison.groups import without_copies
    from cka_probe.images.thumbnails import save_strip, thumbnails

    x, y = without_copies(sides[0], sides[1]) if omitted else sides
    rest = [number for number in range(len(sides[0].images)) if number not in omitted]
    numbers = [rest[number] for number in influential_images(x, y, estimator)]
    if not numbers or numbers[-1] >= READ:
        return []
    count = numbers[-1] + 1
    images = thumbnails(data, num=settings.num, seed=settings.seed, skip_bad=skip_bad, count=count)
    return [save_strip([images[number] for number in numbers], out / INFLUENTIAL, most=len(numbers))]


def _remove_files(out: Path, models: Sequence[Path]) -> None:
    """Remove what another comparison wrote, some of which this one may not write, such as fingerprints and pairs.

    Compared fingerprints stay, and so do the first images if some of these fingerprints are in the folder.
    """
    from cka_probe.comparison.atlas import FINGERPRINTS, PAIRS
    from cka_probe.plotting import FIGURES
    from cka_probe.plotting.atlas import ATLAS_FIGURES

    measures = [*out.glob("measures/*")]
    for folder in measures:
        _remove_files(folder, models)
    tables = (RESULT, ATLAS, "result.csv", "result.tex", "pairs.csv", "curves.csv", "settling.csv")
    figures = (f"{name}.*" for name in (*FIGURES, *ATLAS_FIGURES))
    pairs = (f"{PAIRS}/[0-9]*-[0-9]*/{name}" for name in ("result.json", "result.csv", "index.html"))
    strips = () if any(out.resolve() in model.parents for model in models) else (STRIP, STRIP_Y, INFLUENTIAL)
    patterns = (*tables, *strips, "[xy].fingerprint", *figures, *pairs, f"{FINGERPRINTS}/[0-9]*.fingerprint")
    folders = set()
    for pattern in patterns:
        for path in out.glob(pattern):
            if path.resolve() not in models:
                path.unlink()
            folders.add(path.parent)
    empty = {*folders, out / PAIRS, out / FINGERPRINTS, *measures, out / "measures"} - {out}
    for folder in sorted(empty, reverse=True):
        with suppress(OSError):  # not empty, or not there
            folder.rmdir()
