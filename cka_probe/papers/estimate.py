"""One number of one run, and how sure it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A statistic on one run.

    Attributes:
        value: NaN where undefined.
        low: Lower end of the 95 % interval over images.
        high: Upper end.
        undefined: Why there is no value, or "".
    """

    value: float
    low: float
    high: float
    undefined: str = ""

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference; its interval is the widest that the two allow."""
        why = "; ".join(dict.fromkeys(reason for reason in (self.undefined, other.undefined) if reason))
        return Estimate(self.value - other.value, self.low - other.high, self.high - other.low, why)
