"""See what vision models have learnt, layer by layer.

    import cka_probe
    result = cka_probe.compare("pretrained.pth", "finetuned.pth", "pictures/")
    result.heatmap()

A model is a checkpoint, `timm:NAME`, `random:NAME`, `package.module:function`, or any `torch.nn.Module`. Its
layers' Gram matrices over a list of pictures are its `fingerprint`; two fingerprints of the same pictures give a
`SimilarityMatrix`: unbiased CKA with 95 % intervals and a permutation null. `evaluate` scores a checkpoint that
predicts depth, a row for each picture, or the class of each pixel, a confusion matrix for each picture. `grad_cam`
maps where in a picture a prediction comes from, at any layer.
"""

from cka_probe.attribution.grad_cam import grad_cam as grad_cam
from cka_probe.compare import compare as compare
from cka_probe.compare import compare_fingerprints as compare_fingerprints
from cka_probe.compare import fingerprint as fingerprint
from cka_probe.compare import fingerprints as fingerprints
from cka_probe.difference_results import DifferenceMatrix as DifferenceMatrix
from cka_probe.differences import difference as difference
from cka_probe.errors import CkaProbeError as CkaProbeError
from cka_probe.evaluate import evaluate as evaluate
from cka_probe.fingerprint import Fingerprint as Fingerprint
from cka_probe.fingerprint import Settings as Settings
from cka_probe.label_scores import LabelScores as LabelScores
from cka_probe.models.backbone import Backbone as Backbone
from cka_probe.models.layers import Layer as Layer
from cka_probe.models.layers import LayerMap as LayerMap
from cka_probe.models.load import load as load
from cka_probe.models.recording import record as record
from cka_probe.results import SimilarityMatrix as SimilarityMatrix
from cka_probe.scores import Scores as Scores
