"""`ckaprobe measures`: the similarity measures."""

import typer


def measures() -> None:
    """Print the similarity measures of `compare`.

    Per measure: what it asks, its range, what unrelated layers reach, its cost, what it does not see, and its source.

    \b
    Example:
      ckaprobe measures
    """
    from cka_probe.similarity import INVARIANCES, MEASURES

    lines = [("--measure", "range", "unrelated layers", "cost of a pair", "also invariant to")]
    for measure in MEASURES.values():
        low, high = measure.range or ("", "")
        lines.append(
            (
                measure.name,
                f"{low:g} to {high:g}" if measure.range else "not known",
                measure.chance,
                measure.cost,
                ", ".join(measure.invariances),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    typer.echo("\nn: images in a batch; k: neighbours or components, 10 if the batch is large enough")
    typer.echo("range: of infinitely many images; debiased values of few can be below 0")
    typer.echo("\nA layer has 1 with itself. All are invariant to rotation, scale and translation:")
    for name, transform in INVARIANCES.items():
        typer.echo(f"  {name}: {transform}")
    for measure in MEASURES.values():
        typer.echo(f"\n{measure.name}: {measure.title}\n  {measure.meaning}\n  {measure.reference}")
