"""Load every model file of the tests' table with no architecture named, and compare it with its original model.

    python benchmarks/any_model.py [NAME ...]        all rows, or those whose name or family contains a word

Prints, per row: what the file was recognised as, its default layers, the largest difference of the features relative to
their largest value, and the seconds from writing the file to the comparison.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.model_files import LIBRARY_ROWS, compare_case
from helpers.openmmlab_files import OPENMMLAB_ROWS
from helpers.original_files import ORIGINAL_ROWS


def main() -> None:
    """Run the rows that the command line names."""
    words, failures = sys.argv[1:], 0
    rows = [
        row
        for row in (*LIBRARY_ROWS, *ORIGINAL_ROWS, *OPENMMLAB_ROWS)
        if not words or any(w in f"{row.name} {row.family}" for w in words)
    ]
    print(f"{'file':45} {'recognised as':36} layers  difference  seconds")
    for row in rows:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                comparison = compare_case(row.make(Path(folder)))
                backbone = comparison.backbone
                layers = len(backbone.layers or ())
                text = f"{backbone.origin.architecture:36} {layers:6}  {comparison.difference:10.1e}"
                failures += comparison.difference >= 1e-4
            except Exception as error:  # a row that fails is a line of the table
                text = f"{type(error).__name__}: {str(error).replace(folder, '')}"
                failures += 1
        print(f"{row.name:45} {text}  {time.perf_counter() - start:7.1f}", flush=True)
    print(f"{len(rows)} files, {failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
