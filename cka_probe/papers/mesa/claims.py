"""The paper's claims, each with the statistic that tests it, and their controls.

`CLAIMS` are the paper's, and that pre-training helps at all, without which the others are about nothing. `CONTROLS` are
the same statistics measured in another way. Statistics are defined in `evidence`; a claim holds if its own is above 0.

    1  u_shape            MP against itself: both ends of the top row lighter than its middle
    2  later_changes      MP against MP fine-tuned: layers 5 to 8 change more than 0 to 4
    3  gp_repairs         GP's layers 5 and 6 change less in fine-tuning than MP's
    4  sp_repairs         SP's layers 7 and 8 change less than GP's
    5  rmse_...           in distribution: each stage lowers rmse
    6  out_...            out of distribution: MP+GP+SP has better edges and planes than MP
    7  imagenet_...       ImageNet-like images give MP lighter middle layers and a larger rmse than LSUN-like rooms
    8  pretraining        MP gives a lower rmse than no pre-training
"""

from collections.abc import Callable
from functools import partial

from cka_probe.lab.evaluation.scores import describe_measure
from cka_probe.papers.claims import CKA, Claim, Statistic
from cka_probe.papers.evidence import Estimate, RunKey
from cka_probe.papers.mesa.evidence import (
    MesaEvidence,
    higher_score,
    later_change_more,
    lighter_middle,
    repaired,
    u_shape,
)


def _of_matrices(statistic: Callable[..., Estimate], *pairs: tuple[str, ...]) -> Statistic:
    """Return a statistic of similarities, each pair being x, y and, if it is not the paper's, the variant."""

    def compute(evidence: MesaEvidence, run: RunKey, interval: bool) -> Estimate | None:
        matrices = [evidence.similarity(run.seed, *pair) for pair in pairs]
        return None if any(matrix is None for matrix in matrices) else statistic(*matrices)

    return Statistic(compute, per_seed=True)


def _of_scores(measure: str, higher: str, lower: str, domain: str = "in") -> Statistic:
    """Return by how much the first fine-tuned stage has more of a measure than the second."""

    def compute(evidence: MesaEvidence, run: RunKey, interval: bool) -> Estimate | None:
        first, second = (evidence.scores(run.seed, stage, domain) for stage in (higher, lower))
        return None if first is None or second is None else higher_score(first, second, measure)

    return Statistic(compute, per_seed=True)


def _score_claim(
    name: str, statement: str, measure: str, stages: tuple[str, str], *, domain: str = "in", of: str = ""
) -> Claim:
    """Return the claim that a measure is higher, which is worse, for the first of two stages."""
    figure = f"scores_{domain}"
    return Claim(name, statement, describe_measure(measure).unit, figure, _of_scores(measure, *stages, domain), of)


def _out_claim(measure: str, words: str) -> Claim:
    statement = f"Out of distribution, MP+GP+SP has {words} than MP"
    return _score_claim(f"out_{measure}", statement, measure, ("mp_depth", "sp_depth"), domain="out")


TUNED = ("mp", "mp_depth")


CLAIMS = (
    Claim("u_shape", "The top row of MP is a U: its middle layers are least like layer 0", CKA, "top_row",
          _of_matrices(u_shape, ("mp", "mp"))),
    Claim("later_changes", "Fine-tuning changes the later layers of MP (5 to 8) most", CKA, "diagonal",
          _of_matrices(later_change_more, TUNED)),
    Claim("gp_repairs", "GP repairs the layers up to 6: 5 and 6 change less than with MP alone", CKA, "diagonal",
          _of_matrices(partial(repaired, layers=(5, 6)), TUNED, ("gp", "gp_depth"))),
    Claim("sp_repairs", "SP repairs the layers up to 8: 7 and 8 change less than with MP+GP", CKA, "diagonal",
          _of_matrices(partial(repaired, layers=(7, 8)), ("gp", "gp_depth"), ("sp", "sp_depth"))),
    _score_claim("rmse_gp", "GP lowers rmse: MP > MP+GP", "rmse", ("mp_depth", "gp_depth")),
    _score_claim("rmse_sp", "SP lowers rmse further: MP+GP > MP+GP+SP", "rmse", ("gp_depth", "sp_depth")),
    _score_claim("rmse_mesa", "MeSa lowers rmse: MP > MP+GP+SP", "rmse", ("mp_depth", "sp_depth")),
    _out_claim("dbe_acc", "more accurate depth edges"),
    _out_claim("dbe_comp", "more complete depth edges"),
    _out_claim("pe_plan", "flatter planes"),
    _out_claim("pe_orie", "planes of better orientation"),
    Claim("imagenet_middle", "LSUN-like images give MP darker middle layers than ImageNet-like ones", CKA,
          "top_row_objects", _of_matrices(lighter_middle, ("mp_imagenet", "mp_imagenet"), ("mp", "mp"))),
    _score_claim("imagenet_rmse", "LSUN-like images give MP a lower rmse than ImageNet-like ones", "rmse",
                 ("mp_imagenet_depth", "mp_depth")),
    _score_claim("pretraining", "Pre-training helps at all: no pre-training > MP in rmse", "rmse",
                 ("random_depth", "mp_depth")),
)  # fmt: skip
"""The claims that are tested."""


CONTROLS = (
    Claim("u_shape_stream", "… on the residual stream alone, where no kinds of layer are mixed", CKA, "controls_row",
          _of_matrices(u_shape, ("mp", "mp", "stream")), "u_shape"),
    Claim("u_shape_random", "… of the untrained network", CKA, "controls_row",
          _of_matrices(u_shape, ("random", "random")), "u_shape"),
    Claim("u_shape_random_stream", "… of the untrained network, on the residual stream alone", CKA, "controls_row",
          _of_matrices(u_shape, ("random", "random", "stream")), "u_shape"),
    Claim("later_changes_flat", "… fine-tuned with one learning rate for all layers", CKA, "controls_diagonal",
          _of_matrices(later_change_more, ("mp", "mp_depth_flat")), "later_changes"),
    Claim("later_changes_pooled", "… with features averaged over the image", CKA, "controls_diagonal",
          _of_matrices(later_change_more, (*TUNED, "pooled")), "later_changes"),
    Claim("later_changes_biased", "… by the biased estimator", CKA, "controls_diagonal",
          _of_matrices(later_change_more, (*TUNED, "biased")), "later_changes"),
    Claim("later_changes_stream", "… on the residual stream alone", CKA, "controls_diagonal",
          _of_matrices(later_change_more, (*TUNED, "stream")), "later_changes"),
    Claim("later_changes_plain", "… fine-tuned on plain input, each fed as it was trained", CKA, "controls_diagonal",
          _of_matrices(later_change_more, ("mp", "mp_depth_plain")), "later_changes"),
    Claim("later_changes_shared", "… fine-tuned on plain input, both fed alike", CKA, "controls_diagonal",
          _of_matrices(later_change_more, ("mp", "mp_depth_plain", "shared")), "later_changes"),
    _score_claim("pretraining_labels", "… with labels: no pre-training > supervised in rmse", "rmse",
                 ("random_depth", "supervised_depth"), of="pretraining"),
)  # fmt: skip
"""What is shown with the claims, and not tested."""
