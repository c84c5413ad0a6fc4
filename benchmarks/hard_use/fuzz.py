"""Change files of every kind at random and read them: how many tries were read or refused in one line.

    python benchmarks/hard_use/fuzz.py --tries 100000 --out fuzz.json
    python benchmarks/hard_use/fuzz.py --tries 500 --only fingerprint images

The tries are shared by the kinds. Each has 20 seconds and 4 GiB. What goes wrong is printed with the seed and the
number of the try, which make the same bytes again.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from helpers.damaged_files import TARGETS
from helpers.fuzzing import attack


def main() -> None:
    """Attack each kind and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=100_000, help="in all")
    parser.add_argument("--only", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.only:
        begin = time.perf_counter()
        count = -(-options.tries // len(options.only))
        with tempfile.TemporaryDirectory() as folder:
            findings = attack(name, count, options.seed, Path(folder))
        seconds = round(time.perf_counter() - begin, 1)
        rows.append(
            {"kind": name, "tries": count, "findings": len(findings), "seconds": seconds, "lines": findings[:20]}
        )
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["findings"] for row in rows))


if __name__ == "__main__":
    main()
