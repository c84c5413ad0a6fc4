"""Run the notebooks from top to bottom and keep them with what they put out, the same each time.

    python notebooks/run.py                            every notebook, written back in its place
    python notebooks/run.py 01_compare_two_checkpoints --to FOLDER
    python notebooks/run.py --short --to FOLDER        few images and steps of training: only whether all cells run

Each runs in a kernel of this interpreter, on one thread, in an empty folder of its own: it finds no file that it did
not make, and leaves none behind. What would differ from run to run or tells of one machine is not kept: times,
versions of the kernel, metadata of images. A hash of the code is kept, so that code and outputs cannot drift apart
unseen. A notebook that warns, writes to stderr, names a folder of this machine or grows too large is not written.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parent
MOST_BYTES = 450_000  # what is kept has less; other digits take other room on another machine
SECONDS = 600  # for one cell, on a machine that is busy
COLOURS = 128  # of an image: maps and images of 64 pixels need no more, and it is a third of the size
SURROUNDINGS = {
    "OMP_NUM_THREADS": "1",  # another number of threads gives other last digits
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's, of a kernel that nobody sits at: no bar is drawn
}
SHORT = {r'"steps": \d+': '"steps": 6', r"\bnum=\d+": "num=12", r"\bresamples=\d+": "resamples=100"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebooks() -> list[Path]:
    """Return the paths of all notebooks, in order."""
    return sorted(FOLDER.glob("*.ipynb"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells with code, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def hash_of_code(notebook: NotebookNode) -> str:
    """Return a hash of all code of a notebook; prose may change without running it again."""
    code = "\n# %%\n".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(code.encode()).hexdigest()


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """Yield every output of every cell."""
    for cell in code_cells(notebook):
        yield from cell.outputs


def texts(notebook: NotebookNode) -> Iterator[str]:
    """Yield all text that a notebook put out."""
    for output in outputs(notebook):
        yield from (output[key] for key in ("text", "evalue") if key in output)
        yield from (data for kind, data in output.get("data", {}).items() if kind.startswith("text/"))


def images(notebook: NotebookNode) -> list[bytes]:
    """Return the images that a notebook put out, as files."""
    found = (output.get("data", {}).get("image/png") for output in outputs(notebook))
    return [base64.b64decode(image) for image in found if image]


def executed(path: Path, short: bool = False) -> NotebookNode:
    """Return a notebook run in an empty folder, and cleaned.

    Args:
        path: Of the notebook.
        short: Whether it runs on few images with few steps of training.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook) if short else ():
        for pattern, replacement in SHORT.items():
            cell.source = re.sub(pattern, replacement, cell.source)
    with tempfile.TemporaryDirectory() as here:
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = os.environ | SURROUNDINGS | {"PATH": paths, "IPYTHONDIR": str(Path(here) / "ipython")}
        work = Path(here) / "work"
        work.mkdir()
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(work)}},
        )
        client.execute(env=environment)
    return cleaned(notebook)


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook without what differs from run to run, with the hash of its code."""
    notebook.metadata = nbformat.from_dict(METADATA | {"ckaprobe": {"code": hash_of_code(notebook)}})
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02d}", nbformat.from_dict({})
    for output in outputs(notebook):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = base64.b64encode(plain_png(base64.b64decode(output.data["image/png"]))).decode()
            output.data.pop("text/plain", None)  # says how large the figure is, which is seen
    return notebook


def plain_png(image: bytes) -> bytes:
    """Return a PNG in few colours, without the words about what made it."""
    few = Image.open(io.BytesIO(image))
    if few.mode != "P":  # else it was done before
        # not by how often colours are met, which would make one of two that stand only in a legend
        method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
        few = few.convert("RGB").quantize(COLOURS, method=method, dither=dither, kmeans=1)
    kept = io.BytesIO()
    few.save(kept, "PNG", optimize=True)
    return kept.getvalue()


def faults(notebook: NotebookNode) -> list[str]:
    """Return why a notebook is not to be kept, one line each; none if it is."""
    found = [f"{output.ename}: {output.evalue}" for output in outputs(notebook) if output.output_type == "error"]
    found += [f"on stderr: {output.text}" for output in outputs(notebook) if output.get("name") == "stderr"]
    machine = {str(Path.home()), sys.prefix, tempfile.gettempdir(), "/home/", "/Users/", "/tmp/", "\\Users\\"} - {"/"}
    found += [f"tells of a machine: {place}" for text in texts(notebook) for place in sorted(machine) if place in text]
    if (size := len(nbformat.writes(notebook).encode())) > MOST_BYTES:
        found.append(f"{size} bytes, of at most {MOST_BYTES}")
    return found


def main() -> None:
    """Run the notebooks that are named, or all, and write those without fault."""
    parser = argparse.ArgumentParser(description="Run notebooks and keep their outputs.")
    parser.add_argument("names", nargs="*", help="Without .ipynb; by default all.")
    parser.add_argument("--to", type=Path, default=FOLDER, help="Folder to write to; by default where they are.")
    parser.add_argument("--short", action="store_true", help="Few images and steps of training; needs --to.")
    asked = parser.parse_args()
    if asked.short and asked.to == FOLDER:
        parser.error("--short writes no notebook in its place; choose another folder with --to")
    known = {path.stem: path for path in notebooks()}
    if unknown := set(asked.names) - set(known):
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in asked.names or known:
        notebook = executed(known[name], asked.short)
        if found := faults(notebook):
            sys.exit("\n".join(f"{name}: {line}" for line in found))
        nbformat.write(notebook, asked.to / known[name].name)
        print(asked.to / known[name].name)


if __name__ == "__main__":
    main()
