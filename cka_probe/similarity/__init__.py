"""From activations to Grams, from Grams to similarities; pure functions on tensors.

Linear CKA is a function of Grams alone; see `gram` for how they are made right in float32, `estimators` for
the two HSICs, `cka` for the sums over batches and `intervals` for how sure a value is. Other similarities are functions
of Grams as well: `measures` holds them all, and `measuring` takes any of them over batches.
"""

from cka_probe.similarity.cka import Terms as Terms
from cka_probe.similarity.cka import centre_batches as centre_batches
from cka_probe.similarity.cka import cka as cka
from cka_probe.similarity.cka import hsic_terms as hsic_terms
from cka_probe.similarity.estimators import ESTIMATORS as ESTIMATORS
from cka_probe.similarity.estimators import u_centre as u_centre
from cka_probe.similarity.gram import Grams as Grams
from cka_probe.similarity.gram import anchored_product as anchored_product
from cka_probe.similarity.gram import centred_grams as centred_grams
from cka_probe.similarity.intervals import jackknife_interval as jackknife_interval
from cka_probe.similarity.intervals import permutation_null as permutation_null
from cka_probe.similarity.measures import MEASURES as MEASURES
from cka_probe.similarity.measures import Measure as Measure
from cka_probe.similarity.measures import choose_measure as choose_measure
from cka_probe.similarity.measuring import cka_cells as cka_cells
from cka_probe.similarity.measuring import measured_cells as measured_cells
