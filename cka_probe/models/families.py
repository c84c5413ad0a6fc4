"""The families of models whose files are recognised, as the table of docs/models.md.

python -m cka_probe.models.families > docs/models.md
"""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.catalogue import Definition, signatures
from cka_probe.models.default_layers import default_layers


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: Its name.
        files: Where its files come from.
        example: One of its models, whose default layers the table shows: `timm:NAME`, `torchvision:NAME`, a name in
            `ARCHITECTURES`, or `transformers:TYPE`.
    """

    name: str
    files: str
    example: str


FAMILIES = (
    Family(
        "ResNet, ResNeXt, Wide ResNet",
        "torchvision, timm; MoCo v1 and v2, DINO; SC-Depth, Monodepth2, MiDaS v2.1; FCN and DeepLabV3 of torchvision; "
        "mmpretrain, mmsegmentation, Detectron (Caffe2), detectron2, VISSL; transformers",
        "resnet50",
    ),
    Family("VGG", "torchvision, timm", "torchvision:vgg16"),
    Family("DenseNet", "torchvision, timm", "timm:densenet121"),
    Family("MobileNet", "torchvision (also LR-ASPP and DeepLabV3), timm, transformers", "timm:mobilenetv3_large_100"),
    Family("EfficientNet", "torchvision, timm, transformers", "timm:efficientnet_b0"),
    Family("RegNet", "torchvision, timm, transformers", "timm:regnety_032"),
    Family("ConvNeXt", "timm, torchvision, Meta, transformers; mmpretrain, mmsegmentation", "timm:convnext_tiny"),
    Family("ConvNeXt V2", "timm, Meta, transformers", "timm:convnextv2_tiny"),
    Family(
        "ViT, DeiT",
        "timm, torchvision, JAX and big_vision (.npz), transformers; MAE (without its decoder), DINO, iBOT, MoCo v3; "
        "mmpretrain, mmsegmentation",
        "timm:vit_base_patch16_224",
    ),
    Family("BEiT", "timm, transformers", "timm:beit_base_patch16_224"),
    Family("EVA", "timm", "timm:eva02_base_patch14_224"),
    Family(
        "DINOv2",
        "Meta, timm, transformers; Depth Anything 1 and 2, MoGe; the first blocks of Depth Anything 3",
        "dinov2_base",
    ),
    Family("DINOv2 with registers", "Meta, timm, transformers", "timm:vit_base_patch14_reg4_dinov2"),
    Family("DINOv3", "Meta, timm, transformers", "timm:vit_base_patch16_dinov3"),
    Family("CLIP (ViT)", "OpenAI, open_clip, timm, transformers", "timm:vit_base_patch16_clip_224"),
    Family("CLIP (ResNet)", "OpenAI, open_clip, timm", "timm:resnet50_clip"),
    Family("SigLIP", "timm, open_clip, big_vision (.npz), transformers", "timm:vit_base_patch16_siglip_224"),
    Family("Swin", "Microsoft, timm, torchvision, transformers; mmsegmentation", "timm:swin_tiny_patch4_window7_224"),
    Family("Swin v2", "Microsoft, SimMIM, MIM-Depth, timm, transformers", "swinv2_base"),
    Family("SegFormer (MiT)", "NVlabs, mmsegmentation; transformers builds it", "transformers:segformer"),
    Family("PVT v2", "timm, its authors, transformers", "timm:pvt_v2_b0"),
    Family("SAM", "Meta (`image_encoder`), timm", "timm:samvit_base_patch16"),
)


HEADER = """# Models

<!-- written by `python -m cka_probe.models.families`; do not edit -->

A file of weights is identified by the names and shapes of its tensors, compared with {count} definitions of timm and
torchvision, and by what lies next to it: a `config.json` of transformers, timm or open_clip. Folders of transformers
are built by transformers itself (`pip install 'cka-probe[transformers]'`). Prefixes of training frameworks
(`module.`, `model.`, `backbone.`, `state_dict` …) do not matter; heads and decoders are left out, a linear classifier
is kept.

| family | files from | example | default layers of the example |
|---|---|---|---|
{rows}

- A file of MIM-Depth does not say in which stages windows are shifted; the first two are
  assumed, as in its published models. For one that was trained with `use_shift` in all four, which is the default of
  its class, give `--arch swinv2_base_shifted`.
- Other models of timm and torchvision are identified in the same way; models of your own come as
  `package.module:function` or from Python.
- Dense models of transformers (SegFormer, DPT, Depth Anything, UperNet, Mask2Former …) give their backbone, models of
  images and text their vision tower.
- **Several definitions fit**: they are listed, and `--arch NAME` decides (`--arch-y` for the second model). The name
  of the file decides if it holds one of theirs, and a note says so.
- **Normalisation** is that of `config.json`, of the settings of MMEngine or MMCV in the file (with the order of the
  channels), of the project that the names show, or of the library's definition; a note says which. `--arch NAME.TAG`
  takes that of published weights (`vit_small_patch16_224.dino`).
- **Input size** is that of the position embeddings in the file. `--arch NAME@SIZE` resamples them, and a note says
  so.
- **Dilation**: segmentation models of torchvision are built with the output stride they were trained with. Of mmseg's
  ResNets the settings in the file decide; without them a note says that the output stride is 32.
- **Depth Anything 3** gives its patch embedding and first blocks (4 of 12 in S and B, 8 of 24 in L, 13 of 40 in G).
  Those that follow depend on other views and are not built.
- **Several encoders in a file** (teacher and student, EMA and raw weights): the one that its authors evaluate is
  loaded, a note says which, and `FILE#student` or `--encoder student` takes the other.
- **References**: a file or folder, `hf://org/name`, `timm:NAME`, `random:NAME`, `package.module:function`. What is in
  the local cache of the hub needs no network.
- **Default layers** of any other model: the stem and the repeated blocks, else the direct children; at most 25,
  evenly spaced. `ckaprobe layers MODEL` lists them, `--layers all` takes every layer. In a model
  with blocks the head is never a default layer; of a whole classifier from Python, `all` includes its logits.
"""


def _example(library: str, name: str) -> nn.Module:
    """Return an example on the meta device."""
    if library != "transformers":
        return Definition(library, name).skeleton()
    import transformers

    with torch.device("meta"):
        builder: Any = transformers.AutoModel
        model: nn.Module = builder.from_config(transformers.AutoConfig.for_model(name))
    return model


def page() -> str:
    """Return docs/models.md."""
    rows = []
    for family in FAMILIES:
        library, _, name = family.example.rpartition(":")
        layers = ARCHITECTURES[name].layers if not library else default_layers(_example(library, name))
        names = () if layers is None else layers.names
        shown = f"{len(names)}: `{names[0]}`, `{names[1]}` … `{names[-1]}`"
        rows.append(f"| {family.name} | {family.files} | `{name}` | {shown} |")
    return HEADER.format(count=len(signatures()), rows="\n".join(rows))


if __name__ == "__main__":
    sys.stdout.write(page())
