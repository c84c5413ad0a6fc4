"""What is put on an encoder to name the class of each pixel: three networks, from much to nothing of their own.

| name | sees | is |
|---|---|---|
| `skip` | every map of the pyramid | Monodepth2's decoder, and one more convolution at full size |
| `deeplab` | the last map, at stride 16 | DeepLabV3: pooling over several distances, 3 x 3, 1 x 1 |
| `linear` | the last map | one 1 x 1 convolution: what it can tell, the encoder knows |

They take the maps of a pyramid, fine to coarse, and return logits (n, classes, h, w), float32, at the stride of the map
they see; the task scales them to the size of the image.

Godard et al., ICCV 2019; Chen, Papandreou, Schroff & Adam, "Rethinking Atrous Convolution for Semantic Image
Segmentation", 2017, as segmentation-models-pytorch has it. Dropout is off: of the published ways to build DeepLabV3
some have it, that of Lao et al. (2024) has none.
"""

from collections.abc import Callable, Sequence

from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder
from torch import Tensor, nn

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.lab.tasks.skip_decoder import SkipDecoder, at_scales, check_maps, output_layers

Maps = Sequence[tuple[int, int]]
"""(channels, stride) of each map of a pyramid, fine to coarse."""

RATES = (6, 12, 18)
"""Distances between the taps of DeepLabV3's three dilated convolutions, in steps of a map of stride 16."""

DEEPLAB_WIDTH, DEEPLAB_STRIDE = 256, 16


class SkipHead(nn.Module):
    """Monodepth2's decoder under the name `decoder`, and logits from its finest features.

    Args:
        maps: With strides out of 2, 4, 8, 16 and 32, the last 32.
        classes: How many.
    """

    def __init__(self, maps: Maps, classes: int):
        super().__init__()
        check_maps(maps, "segmentation with network 'skip'")
        self.decoder = SkipDecoder(maps)
        self.to_logits = output_layers(self.decoder, classes, scales=(1,))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return logits at stride 1."""
        return at_scales(self.to_logits, self.decoder(pyramid))[1]


class DeepLabHead(nn.Module):
    """DeepLabV3's decoder, and logits from what it puts out.

    Args:
        maps: The last at stride 16.
        classes: How many.
    """

    def __init__(self, maps: Maps, classes: int):
        super().__init__()
        channels, stride = maps[-1]
        if stride != DEEPLAB_STRIDE:
            raise RecipeError(
                f"segmentation: expected an encoder whose last map has stride {DEEPLAB_STRIDE} for network 'deeplab', "
                f"found {stride}; say output_stride={DEEPLAB_STRIDE} in the stage, and train a ResNet"
            )
        self.context = DeepLabV3Decoder(channels, DEEPLAB_WIDTH, RATES, aspp_separable=False, aspp_dropout=0.0)
        self.to_logits = nn.Conv2d(DEEPLAB_WIDTH, classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return logits at stride 16.

        Raises:
            RecipeError: One image alone, in training: it is pooled to one value, of which there is no variance.
        """
        if self.training and len(pyramid[-1]) < 2:
            raise RecipeError(
                "segmentation: expected at least 2 images at a time for network 'deeplab', whose batch norms "
                "compare them, found 1; set batch higher, or accumulate lower"
            )
        return self.to_logits(self.context(pyramid)).float()


class LinearProbe(nn.Module):
    """One 1 x 1 convolution on the last map.

    Args:
        maps: Any.
        classes: How many.
    """

    def __init__(self, maps: Maps, classes: int):
        super().__init__()
        self.to_logits = nn.Conv2d(maps[-1][0], classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return logits at the last map's stride."""
        return self.to_logits(pyramid[-1]).float()


NETWORKS: dict[str, Callable[[Maps, int], nn.Module]] = {
    "skip": SkipHead,
    "deeplab": DeepLabHead,
    "linear": LinearProbe,
}


def segmentation_head(network: str, maps: Maps, classes: int) -> nn.Module:
    """Return one of `NETWORKS` for an encoder with these maps, initialised from torch's generator.

    Raises:
        UnknownNameError: There is no such network.
        RecipeError: The encoder's maps are not what it asks for.
    """
    return registry.get(NETWORKS, network, "network")(maps, classes)
