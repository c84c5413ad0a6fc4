"""A table that grows by a row at a time and can be taken back to a step.

No column is a time or a speed: same inputs, same bytes.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write


class Log:
    """A CSV file whose first column is `step`.

    Args:
        path: Where it is.
        step: Rows after this step are taken out: they belong to a run that was interrupted after its last
            resume point, and will be written again.
    """

    def __init__(self, path: Path, step: int = 0):
        self.path = path
        if step == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            head, *rows = path.read_text("utf-8").splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and int(row.split(",", 1)[0]) <= step]
            with atomic_write(path) as beside:
                beside.write_text("".join([head, *kept]), "utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; the first one decides the columns."""
        try:
            new = not self.path.exists()
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                if new:
                    writer.writerow(["step", *values])
                writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free space and run again") from error
