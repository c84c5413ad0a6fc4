"""See what vision models have learnt, layer by layer.

    import cka_probe
    result = cka_probe.compare("pretrained.pth", "finetuned.pth", "images/")
    result.heatmap()

A model is a checkpoint, `timm:NAME`, `random:NAME`, `package.module:function`, or any `torch.nn.Module`. The Gram
matrices of its layers over a list of images are its `fingerprint`; two fingerprints of the same images give a
`SimilarityMatrix`: unbiased CKA with 95 % intervals and a permutation null. `evaluate` scores a checkpoint that
predicts depth (one row per image) or the class of each pixel (one confusion matrix per image). `grad_cam` maps where
in an image a prediction comes from, at any layer.

Public names are loaded on first use; `__init__.pyi` lists them and where each is defined.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
