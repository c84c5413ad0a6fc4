"""How many dimensions each layer of a fingerprint uses, with intervals."""

import pandas as pd
import torch
from scipy.special import stdtrit
from torch import Tensor

from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.errors import FingerprintError
from cka_probe.similarity.cells import jackknife_error
from cka_probe.similarity.dimensions import DIMENSIONS
from cka_probe.similarity.features import tokens_per_image


def layer_dimensions(fingerprint: Fingerprint) -> pd.DataFrame:
    """Return the effective rank, participation ratio and intrinsic dimension of each layer, and their 95 % intervals.

    Each value is the mean over batches, weighted by images, and valid for batches of this size; its interval is that of
    `similarity.cells`.

    Args:
        fingerprint: Of any model and images.

    Returns:
        One row per layer: for each name in `DIMENSIONS`, columns `NAME`, `NAME_low` and `NAME_high`; NaN where
        undefined: the layer does not vary, or two images are equal (intrinsic dimension).

    Raises:
        FingerprintError: It is of a sample of the features of each layer.

    >>> from cka_probe import fingerprint
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 5))
    >>> layer_dimensions(fingerprint(net, torch.randn(64, 3), layers="0")).columns[:2].tolist()
    ['effective_rank', 'effective_rank_low']
    """

    if fingerprint.sample and not fingerprint.sample.is_complete:
        raise FingerprintError(
            "expected all features for the dimensions of layers, found a sample (--num-features "
            f"{fingerprint.settings.num_features}); recompute the fingerprint without"
        )

    def values(grams: Tensor) -> Tensor:
        defined = grams.isfinite().all(dim=2).all(dim=1)
        table = torch.full((len(grams), len(DIMENSIONS)), torch.nan, dtype=torch.float64)
        table[defined] = torch.stack([function(grams[defined]) for function in DIMENSIONS.values()], dim=1)
        return table

    per_image = tokens_per_image(fingerprint.settings.features)
    batches = [(stack,) for stack in fingerprint.defined_grams]
    weights = torch.tensor([float(stack.shape[-1]) for (stack,) in batches], dtype=torch.float64)
    means = torch.tensordot(weights / weights.sum(), torch.stack([values(*batch) for batch in batches]), dims=1)
    error, freedom = jackknife_error(batches, values, per_image)
    margin = float(stdtrit(freedom, 0.975)) * error
    columns = {
        name + suffix: table[:, index].numpy()
        for index, name in enumerate(DIMENSIONS)
        for suffix, table in (("", means), ("_low", (means - margin).clamp_min(0)), ("_high", means + margin))
    }
    return pd.DataFrame(columns, index=pd.Index(fingerprint.layers.names, name="layer"))
