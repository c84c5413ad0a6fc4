"""From activations to Grams, and from Grams to similarities; pure functions of tensors.

`gram` computes centred Grams, `cka` estimates HSIC and sums it over batches, and `intervals` has the intervals and the
null of CKA. `measures` has the other similarities, and `cells` computes values, intervals and null of any.
"""

from cka_probe.similarity.cells import Cells as Cells
from cka_probe.similarity.cells import cka_cells as cka_cells
from cka_probe.similarity.cells import group_cells as group_cells
from cka_probe.similarity.cells import mean_interval as mean_interval
from cka_probe.similarity.cells import measured_cells as measured_cells
from cka_probe.similarity.cka import ESTIMATORS as ESTIMATORS
from cka_probe.similarity.cka import Terms as Terms
from cka_probe.similarity.cka import centre_batches as centre_batches
from cka_probe.similarity.cka import cka as cka
from cka_probe.similarity.cka import hsic_terms as hsic_terms
from cka_probe.similarity.cka import u_centre as u_centre
from cka_probe.similarity.gram import Grams as Grams
from cka_probe.similarity.gram import anchored_product as anchored_product
from cka_probe.similarity.gram import centred_grams as centred_grams
from cka_probe.similarity.intervals import influences as influences
from cka_probe.similarity.intervals import jackknife_interval as jackknife_interval
from cka_probe.similarity.measures import INVARIANCES as INVARIANCES
from cka_probe.similarity.measures import MEASURES as MEASURES
from cka_probe.similarity.measures import Measure as Measure
from cka_probe.similarity.measures import choose_measure as choose_measure
from cka_probe.similarity.null import calibrated_scores as calibrated_scores
from cka_probe.similarity.null import family_null as family_null
from cka_probe.similarity.null import familywise_p_values as familywise_p_values
from cka_probe.similarity.null import permuted_values as permuted_values
