"""`ckaprobe scenes`: furnished rooms with exact depth, drawn here, for a trial that needs no download."""

from pathlib import Path
from typing import Annotated

import typer


def scenes(
    out: Annotated[Path, typer.Option(help="Folder to make.", show_default=False)],
    rooms: Annotated[int, typer.Option(help="How many rooms; the last quarter is for testing.")] = 240,
    frames: Annotated[int, typer.Option(help="Pictures of each room, a few centimetres apart.")] = 2,
    width: Annotated[int, typer.Option(help="Pixels across.")] = 128,
    height: Annotated[int, typer.Option(help="Pixels down.")] = 96,
    seed: Annotated[int, typer.Option(help="Another seed, other rooms; the same seed, the same bytes.")] = 0,
) -> None:
    """Draw furnished rooms with exact depth, laid out as NYU Depth v2 is; prints the folder.

    Open them with nyuv2:OUT, or nyuv2:OUT:train and nyuv2:OUT:test.
    """
    from functools import partial

    from tqdm import tqdm

    from cka_probe.data.scenes import write_scenes

    progress = partial(tqdm, desc="rooms", unit="room")  # writes to stderr
    typer.echo(write_scenes(out, rooms=rooms, frames=frames, size=(height, width), seed=seed, progress=progress))
