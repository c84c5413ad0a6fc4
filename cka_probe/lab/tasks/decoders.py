"""Decoders: from the feature maps of a backbone to images, depth or features at full size.

`PixelDecoder` is that of SimMIM: one 1 x 1 convolution and a pixel shuffle. It can learn almost nothing itself, so that
all knowledge has to be in the encoder. `DepthDecoder` is the light one of Xie et al., "Revealing the Dark Secrets of
Masked Image Modeling" (CVPR 2023), layer for layer, except for the bias before each batch norm, which the norm removes.

`SkipDecoder` is that of Monodepth2 (Godard, Mac Aodha, Firman & Brostow, "Digging into Self-Supervised Monocular Depth
Estimation", ICCV 2019). From the coarsest map up, at each of five strides: a convolution, upsampling by 2,
concatenation with the backbone's map of that stride where it has one (a Swin has none at stride 2), a convolution.
Convolutions are 3 x 3 with reflection padding, followed by ELU; there is no batch norm. The outputs at strides 8, 4, 2
and 1 are features. One more convolution each, the task's `output_layers`, turns them into disparity, flow, colours or
classes. Every head keeps the decoder under the name `decoder`, so that one task can continue with another's.

`DeepLabHead` is that of DeepLabV3 (Chen, Papandreou, Schroff & Adam, "Rethinking Atrous Convolution for Semantic Image
Segmentation", 2017), as in segmentation-models-pytorch: pooling over several distances, 3 x 3, 1 x 1. There is no
dropout, as in Lao et al. (ECCV 2024).

`DptHead` is that of DPT (Ranftl, Bochkovskiy & Koltun, "Vision Transformers for Dense Prediction", ICCV 2021), also of
segmentation-models-pytorch: the tokens of four blocks become maps at strides 4 to 32, fused from the coarsest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate

from cka_probe.errors import RecipeError
from cka_probe.models.backbone import Backbone

Maps = Sequence[tuple[int, int]]
"""(channels, stride) of each map of a pyramid, fine to coarse."""

WIDTHS = {32: 256, 16: 128, 8: 64, 4: 32, 2: 16}
"""Channels of `SkipDecoder` after each stride."""

SCALES = (1, 2, 4, 8)
"""Strides of its outputs, fine to coarse."""

RATES = (6, 12, 18)
"""Dilations of DeepLabV3's three dilated convolutions at stride 16."""

DEEPLAB_WIDTH, DEEPLAB_STRIDE = 256, 16

DPT_BLOCKS, DPT_STRIDE = 4, 16
"""Blocks that DPT reads, the last of each quarter, and the stride for which its maps get their size."""


def maps(backbone: Backbone) -> Maps:
    """Return (channels, stride) of each map of a backbone's `pyramid`, fine to coarse.

    Raises:
        RecipeError: The encoder does not describe its maps, as timm's convolutional and hierarchical ones do.
    """
    features = getattr(backbone.model, "feature_info", None)
    if not features:
        raise RecipeError(
            f"expected an encoder with feature maps (timm's `feature_info`), found {backbone.origin.architecture!r}; "
            "train a Swin or a ResNet"
        )
    return [(feature["num_chs"], feature["reduction"]) for feature in features]


class PixelDecoder(nn.Sequential):
    """(n, channels, H / stride, W / stride) -> (n, 3, H, W), linear."""

    def __init__(self, channels: int, stride: int):
        super().__init__(nn.Conv2d(channels, 3 * stride**2, kernel_size=1), nn.PixelShuffle(stride))


class DepthDecoder(nn.Module):
    """(n, channels, H / 32, W / 32) -> (n, 1, H, W) metres in (0, max_depth).

    Args:
        channels: Of the last feature map.
        width: Channels after the deconvolutions.
        max_depth: Metres.
        narrow: Channels of the three deconvolutions.
    """

    def __init__(self, channels: int, width: int, max_depth: float, narrow: int = 32):
        super().__init__()
        self.max_depth = max_depth

        def deconvolution(before: int) -> nn.Sequential:
            layer = nn.ConvTranspose2d(before, narrow, 2, stride=2, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(narrow), nn.ReLU())

        self.deconvolutions = nn.Sequential(*map(deconvolution, (channels, narrow, narrow)))
        self.widening = nn.Sequential(
            nn.Conv2d(narrow, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.upsampling = nn.Sequential(*(nn.Upsample(scale_factor=2, mode="bilinear") for _ in range(2)))
        self.to_depth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                # so small that every pixel starts at half of max_depth
                nn.init.normal_(module.weight, std=1e-3)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return depth in metres, (n, 1, H, W) float32."""
        wide = self.upsampling(self.widening(self.deconvolutions(feature_map)))
        return self.max_depth * self.to_depth(wide).float().sigmoid()


class SkipDecoder(nn.Module):
    """Monodepth2's decoder: the maps of a pyramid -> features at strides 1, 2, 4 and 8 of 16, 32, 64 and 128 channels.

    Args:
        maps: (channels, stride) of each map, fine to coarse; strides out of 2, 4, 8, 16 and 32, the last 32.
        upsampling: "nearest" or "bilinear".

    Raises:
        RecipeError: The maps have other strides.

    Attributes:
        channels: Of each output, by stride.
    """

    def __init__(self, maps: Maps, upsampling: str = "nearest"):
        super().__init__()
        self.upsampling = upsampling
        self.strides = [stride for _, stride in maps]
        if self.strides[-1] != 32 or len(set(self.strides)) < len(maps) or not set(self.strides) <= WIDTHS.keys():
            raise RecipeError(
                f"expected an encoder with maps at strides out of {', '.join(map(str, sorted(WIDTHS)))}, each once and "
                f"the last 32, found {self.strides}; train a Swin, or a ResNet of output_stride=32"
            )
        self.channels = {stride // 2: width for stride, width in WIDTHS.items() if stride // 2 in SCALES}
        skips = {stride: channels for channels, stride in maps}
        before = skips[32]
        self.narrowing, self.joining = nn.ModuleDict(), nn.ModuleDict()
        for stride, width in WIDTHS.items():
            self.narrowing[str(stride)] = reflect_convolution(before, width)
            self.joining[str(stride)] = reflect_convolution(width + skips.get(stride // 2, 0), width)
            before = width

    def forward(self, pyramid: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return features (n, channels, H / stride, W / stride) by stride, fine to coarse.

        Args:
            pyramid: Maps (n, C, H / stride, W / stride), fine to coarse; H and W multiples of 32, at least 64.
        """
        skips = dict(zip(self.strides, pyramid, strict=True))
        align_corners = None if self.upsampling == "nearest" else False
        x, outputs = skips[32], {}
        for stride in WIDTHS:
            x = elu(self.narrowing[str(stride)](x))
            x = interpolate(x, scale_factor=2, mode=self.upsampling, align_corners=align_corners)
            if stride // 2 in skips:
                x = torch.cat([x, skips[stride // 2]], 1)
            x = elu(self.joining[str(stride)](x))
            if stride // 2 in SCALES:
                outputs[stride // 2] = x
        return dict(reversed(outputs.items()))


class DeepLabHead(nn.Module):
    """DeepLabV3's decoder for a last map of stride 16, under the name `context`, and one convolution on its output.

    Args:
        maps: (channels, stride) of each map, fine to coarse.
        outputs: Number of outputs: of classes, or 1 for depth.

    Raises:
        RecipeError: The last map has another stride.
    """

    def __init__(self, maps: Maps, outputs: int):
        # slow to import, and no other head needs it
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder

        super().__init__()
        channels, stride = maps[-1]
        if stride != DEEPLAB_STRIDE:
            raise RecipeError(
                f"expected an encoder whose last map has stride {DEEPLAB_STRIDE} for network 'deeplab', "
                f"found {stride}; set output_stride={DEEPLAB_STRIDE} in the stage, and train a ResNet"
            )
        self.context = DeepLabV3Decoder(channels, DEEPLAB_WIDTH, RATES, aspp_separable=False, aspp_dropout=0.0)
        self.to_logits = nn.Conv2d(DEEPLAB_WIDTH, outputs, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return the outputs (n, outputs, h, w) float32 at stride 16.

        Raises:
            RecipeError: There is one image, in training: its pooled value has no variance.
        """
        if self.training and len(pyramid[-1]) < 2:
            raise RecipeError(
                "expected at least 2 images at a time for network 'deeplab', whose batch norms "
                "compare them, found 1; set batch higher, or accumulate lower"
            )
        return self.to_logits(self.context(pyramid)).float()


class DptHead(nn.Module):
    """DPT's decoder and output layers on four blocks of a vision transformer, of the published widths for a ViT-L.

    Args:
        backbone: A vision transformer with a class token.
        outputs: Number of outputs: of classes.

    Raises:
        RecipeError: It is another encoder, or an odd number of patches covers a side of the input.
    """

    def __init__(self, backbone: Backbone, outputs: int):
        # slow to import, and few heads need it
        from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead

        super().__init__()
        ((channels, stride), *others), size = maps(backbone), backbone.preprocessing.size
        if others or not hasattr(backbone.model, "num_prefix_tokens"):
            raise RecipeError(
                f"expected a vision transformer for network 'dpt', found {backbone.origin.architecture}; train a "
                "DINOv2 or a ViT, or use another network"
            )
        if size is None or any(side % (2 * stride) for side in size):
            raise RecipeError(
                f"expected an input of multiples of {2 * stride} pixels for network 'dpt' on patches of {stride}, "
                f"found {size}; set size to one, such as {32 * stride}"
            )
        self.decoder = DPTDecoder(
            [channels] * DPT_BLOCKS,
            [DPT_STRIDE] * DPT_BLOCKS,
            intermediate_channels=[channels // 4, channels // 2, channels, channels],
            fusion_channels=channels // 4,
        )
        self.to_logits = DPTSegmentationHead(channels // 4, outputs, upsampling=1)

    def forward(self, blocks: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the outputs, (n, outputs, 8 h, 8 w) float32, of four maps (n, C, h, w) with class tokens (n, 1, C)."""
        maps, class_tokens = zip(*blocks, strict=True)
        return self.to_logits(self.decoder(list(maps), list(class_tokens))).float()


def output_layers(decoder: SkipDecoder, outputs: int, scales: Sequence[int] = SCALES) -> nn.ModuleDict:
    """Return a convolution from the decoder's features to `outputs` channels for each of some scales, by stride."""
    return nn.ModuleDict({str(stride): reflect_convolution(decoder.channels[stride], outputs) for stride in scales})


def at_scales(layers: nn.ModuleDict, features: dict[int, Tensor]) -> dict[int, Tensor]:
    """Return what `output_layers` make of the decoder's features, float32, by stride, fine to coarse."""
    return {int(stride): layer(features[int(stride)]).float() for stride, layer in layers.items()}


def at_full_size(outputs: dict[int, Tensor]) -> dict[int, Tensor]:
    """Return outputs (n, C, H / stride, W / stride) upsampled bilinearly to (n, C, H, W), by stride."""

    def upsampled(output: Tensor, stride: int) -> Tensor:
        return output if stride == 1 else interpolate(output, scale_factor=stride, mode="bilinear", align_corners=False)

    return {stride: upsampled(output, stride) for stride, output in outputs.items()}


def reflect_convolution(before: int, after: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution with reflection padding: zeros would tell the network where the border is."""
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")
