"""Quantiles of any number of positive values in a fixed room: a histogram of logarithms."""

import numpy as np

LOWEST, DECADES, BINS = -5, 10, 400  # from 1e-5 to 1e5, 400 bins for each factor of ten


class LogHistogram:
    """Counts of positive values; a quantile is off by at most half a bin, 0.3 %.

    Values outside 1e-5 … 1e5 are counted in the outermost bins; least, greatest and mean are exact for all.
    """

    def __init__(self):
        self.counts = np.zeros(DECADES * BINS, np.int64)
        self.least, self.greatest, self.total = np.inf, -np.inf, 0.0

    def add(self, values: np.ndarray) -> None:
        """Count values above 0, of any shape."""
        if not values.size:
            return
        places = ((np.log10(values.astype(np.float32).ravel()) - LOWEST) * BINS).astype(np.int64)
        self.counts += np.bincount(places.clip(0, len(self.counts) - 1), minlength=len(self.counts))
        self.least = min(self.least, float(values.min()))
        self.greatest = max(self.greatest, float(values.max()))
        self.total += float(values.sum(dtype=np.float64))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Return the value below which this share of all lies; NaN if there are none."""
        if not len(self):
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.counts), share * (len(self) - 1), side="right"))
        return float(np.clip(10 ** (LOWEST + (place + 0.5) / BINS), self.least, self.greatest))

    def above(self, value: float) -> int:
        """Return how many values are above one, to half a bin."""
        place = int(np.ceil((np.log10(value) - LOWEST) * BINS))
        return int(self.counts[max(place, 0) :].sum())

    def summary(self) -> dict[str, float]:
        """Return min, 1 %, median, mean, 99 % and max; nothing if there are no values."""
        if not len(self):
            return {}
        return {
            "min": self.least,
            "percentile_1": self.quantile(0.01),
            "median": self.quantile(0.5),
            "mean": self.total / len(self),
            "percentile_99": self.quantile(0.99),
            "max": self.greatest,
        }
