"""Where the repository and the real images beside it are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"
"""Real images, RGB-D, video and labels; tests that need them are skipped where they are not there."""
