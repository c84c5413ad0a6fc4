"""`ckaprobe reproduce`: repeat the study of a paper, from data to report."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.bars import Bars
from ckaprobe_cli.commands import is_main
from ckaprobe_cli.options import OUTPUT, RUN, Quiet, Track, Workers, drop_none, option


def reproduce(
    paper: Annotated[str, typer.Argument(help="mesa or depth-to-semantic.")],
    out: Annotated[Path, option("Folder to write to; an interrupted study in it is resumed.", OUTPUT)],
    scale: Annotated[
        str,
        typer.Option(help="demo or claims (a laptop), gpu (one GPU) or paper (real data, many GPUs)."),
    ] = "demo",
    seeds: Annotated[int, typer.Option(help="Number of repetitions of the study; more can be added later.")] = 1,
    trials: Annotated[
        int | None,
        typer.Option(
            help="depth-to-semantic: number of fine-tuning trials; more can be added later.  [default: the scale's]"
        ),
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(help="depth-to-semantic: table1,figure3 or all; more can be added later.  [default: the scale's]"),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="depth-to-semantic: paper, or released (also with the faults of the released code).  [default: paper]"
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change the recipe (of depth-to-semantic: pre.KEY, segment.KEY), or give data: data.nyuv2=PATH.",
        ),
    ] = None,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="First run everything in small, in minutes, in the folder OUT_rehearsal."),
    ] = False,
    track: Track = None,
    device: Annotated[str, option("Device: auto, cpu, cuda or mps.", RUN)] = "auto",
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Repeat the study of a paper.

    Train, score and compare every arm, and test the claims.

    Writes OUT/report: a page, the tables and figures next to the paper's, and a table of its claims. Interrupt it at
    any time; the same command resumes it.

    \b
    Example:
      ckaprobe reproduce mesa --out mesa --scale demo
    """
    from cka_probe import registry
    from cka_probe.papers import PAPERS, check_options

    run_study = registry.get(PAPERS, paper, "paper")  # first: names the extra if one is missing
    from cka_probe.papers.study import RunContext

    options = drop_none(trials=trials, protocol=protocol, tables=tables and tables.split(","))
    check_options(paper, options)
    with Bars(quiet or not is_main()) as bars:
        context = RunContext(
            device, workers, tuple(track or ()), training=bars.step, generating=bars.count, say=bars.say
        )
        typer.echo(
            run_study(out, scale, seeds=seeds, settings=overrides or (), rehearse=rehearse, context=context, **options)
        )
