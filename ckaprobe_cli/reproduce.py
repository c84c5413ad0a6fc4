"""`ckaprobe reproduce`: repeat the study of a paper, from data to report."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.bars import Bars


def reproduce(
    paper: Annotated[str, typer.Argument(help="mesa or depth-to-semantic.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write to; an interrupted study in it is resumed.")],
    scale: Annotated[
        str, typer.Option(help="demo (a laptop), gpu (one GPU) or paper (real data, many GPUs).")
    ] = "demo",
    seeds: Annotated[int, typer.Option(help="Number of repetitions of the study; more can be added later.")] = 1,
    trials: Annotated[
        int | None,
        typer.Option(
            help="depth-to-semantic: how many times everything is fine-tuned; more can be added later.  [default: the "
            "scale's]",
            show_default=False,
        ),
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(
            help="depth-to-semantic: as in table1,figure3, or all; more can be added later.  [default: the scale's]",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="depth-to-semantic: paper, or released: the faults of the released code are run beside it.  [default: "
            "paper]",
            show_default=False,
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that read images ahead, and draw scenes.  [default: what suits the device]",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Repeat the study of a paper: train, score and compare every arm, and test the claims.

    Writes OUT/report: a page, the tables and figures next to the paper's, and a table of its claims. Interrupt it at
    any time; the same command resumes it.
    """
    from cka_probe import registry
    from cka_probe.papers import PAPERS, check_options

    run_study, bars = registry.get(PAPERS, paper, "paper"), Bars(quiet)  # first: names the extra if one is missing
    from cka_probe.papers.study import RunContext

    requested = {"trials": trials, "protocol": protocol, "tables": tables and tables.split(",")}
    options = {name: value for name, value in requested.items() if value is not None}
    check_options(paper, options)
    context = RunContext(device, workers, training=bars.step, generating=bars.scenes, say=bars.say)
    try:
        page = run_study(out, scale, seeds=seeds, settings=overrides or (), context=context, **options)
    except KeyboardInterrupt as interrupt:
        bars.close()
        typer.echo(str(interrupt) or "stopped; the same command resumes from here", err=True)
        raise typer.Exit(130) from interrupt
    finally:
        bars.close()
    typer.echo(page)
