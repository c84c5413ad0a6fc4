"""Model files as the libraries write them: real definitions of timm, torchvision, transformers and open_clip.

Each `Row` writes one model with random weights in its library's format and returns a `Case`: the path, the original
model, the normalisation that its authors use, and the layers to compare. `compare_case` loads the path with no
architecture named and returns the largest difference of these layers, relative to their largest value.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import open_clip
import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor, nn

import cka_probe
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from cka_probe.models.recording import record

HALF = (0.5, 0.5, 0.5)
GAIN = 1.8
"""Of random convolutions, so that images still differ at the end of a deep network without batch statistics."""
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

Cost = Literal["fast", "slow", "large"]


@dataclass(frozen=True)
class Case:
    """A file and the model that it was written from.

    Attributes:
        path: The file or folder.
        model: The original model, in evaluation mode.
        layers: Modules of the original model that put out the features to compare, with their paths in the loaded
            model; a path may omit what precedes it there.
        size: Height and width of the input in pixels.
        mean: Mean per channel of the original normalisation, in units of [0, 1].
        std: Standard deviation per channel.
        bgr: Whether the original takes BGR images; `mean` and `std` are then in that order.
    """

    path: Path
    model: nn.Module
    layers: Mapping[str, str]
    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bgr: bool = False

    def reference(self, images: Tensor) -> list[Tensor]:
        """Return the original model's features for images (n, 3, size, size) in [0, 1]."""
        images = images.flip(1) if self.bgr else images
        inputs = (images - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]
        modules = [module_path(self.model, layer) for layer in self.layers]
        return record(self.model, inputs, modules, lambda _, activation: activation.clone())


@dataclass(frozen=True)
class Row:
    """A model of the table.

    Attributes:
        name: Of the row.
        family: As a reader knows it.
        make: Writes the model into a folder and returns its case.
        cost: `slow` takes more than two seconds; `large` more than a test should, so only `benchmarks/any_model.py`
            runs it.
    """

    name: str
    family: str
    make: Callable[[Path], Case] = field(repr=False)
    cost: Cost = "fast"


@dataclass(frozen=True)
class Comparison:
    """What loading a case gave: the backbone, and the largest difference relative to the largest feature."""

    backbone: Backbone
    difference: float


def compare_case(case: Case) -> Comparison:
    """Load a case with no architecture named and compare its features with the original model's."""
    backbone = cka_probe.load(case.path)
    images = torch.rand(2, 3, case.size, case.size, generator=torch.Generator().manual_seed(7))
    assert backbone.preprocessing.size in (None, (case.size, case.size)), backbone.preprocessing
    modules = [module_path(backbone.model, name) for name in case.layers.values()]
    features = record(backbone.model, images, modules, lambda _, activation: activation.clone(), run=backbone)
    differences = [0.0]
    for reference, feature in zip(case.reference(images), features, strict=True):
        scale = reference.abs().max()
        assert reference.shape == feature.shape, (reference.shape, feature.shape)
        assert (reference[0] - reference[1]).abs().max() > 1e-3 * scale, "the two images have the same features"
        differences.append(float((reference - feature).abs().max() / scale))
    return Comparison(backbone, max(differences))


def module_path(model: nn.Module, name: str) -> str:
    """Return the path of the only module that ends with `name`."""
    paths = [path for path, _ in model.named_modules() if path == name or path.endswith(f".{name}")]
    assert paths, f"no module {name!r} in {type(model).__name__}: {[path for path, _ in model.named_children()]}"
    return min(paths, key=len)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and running statistic its own random value, those of norms and layer scales included."""
    generator = torch.Generator().manual_seed(seed)
    statistics = {name: value for name, value in model.named_buffers() if "running_" in name.rpartition(".")[2]}
    with torch.no_grad():
        for name, tensor in (dict(model.named_parameters()) | statistics).items():
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.2 * noise.abs())
            elif name.endswith("logit_scale"):
                tensor.copy_(1.5 + 0.2 * noise)
            elif tensor.ndim <= 1:
                tensor.copy_(1 + 0.2 * noise if name.endswith(("weight", "gamma", "lambda1")) else 0.1 * noise)
            else:
                fan = tensor[0].numel() / (GAIN**2 if tensor.ndim == 4 else 1)
                tensor.copy_(noise * (fan**-0.5 if name.endswith("weight") else 0.1))
    return model.eval()


def save(state: Mapping[str, Any], path: Path) -> Path:
    """Save named tensors in the format of a suffix."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(dict(state), path)
    return path


def same(*layers: str) -> dict[str, str]:
    """Return layers whose paths are the same in the original and in the loaded model."""
    return {layer: layer for layer in layers}


def timm_case(path: Path, model: nn.Module, layers: Mapping[str, str], size: int | None = None) -> Case:
    """Return the case of a timm model, with the input that timm declares for it, or of another size."""
    config: Any = model.pretrained_cfg
    side = size or config["input_size"][-1]
    return Case(path, model, layers, side, tuple(config["mean"]), tuple(config["std"]))


def timm_file(name: str, *layers: str, suffix: str = ".pth", cost: Cost = "fast", **options: Any) -> Row:
    """Return the row of a timm model saved as its bare state dict."""

    def make(folder: Path) -> Case:
        model = randomised(timm.create_model(name, **options))
        return timm_case(save(model.state_dict(), folder / f"weights{suffix}"), model, same(*layers))

    return Row(f"timm {name}", "timm state dict", make, cost)


def timm_folder(name: str, *layers: str, cost: Cost = "fast", **options: Any) -> Row:
    """Return the row of a timm model saved with `save_for_hf`: its weights and a `config.json`."""

    def make(folder: Path) -> Case:
        model = randomised(timm.create_model(name, **options))
        save_for_hf(model, folder / "saved", safe_serialization=True)
        return timm_case(folder / "saved", model, same(*layers), options.get("img_size"))

    return Row(f"timm hub {name}", "timm save_for_hf folder", make, cost)


def torchvision_file(name: str, *layers: str, cost: Cost = "fast", size: int = 224) -> Row:
    """Return the row of a torchvision classifier saved as its state dict."""

    def make(folder: Path) -> Case:
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        model = randomised(torchvision.models.get_model(name, weights=None, **options))
        return Case(save(model.state_dict(), folder / "weights.pth"), model, same(*layers), size)

    return Row(f"torchvision {name}", "torchvision state dict", make, cost)


def segmentation_file(name: str, *layers: str, cost: Cost = "fast") -> Row:
    """Return the row of a segmentation model of torchvision, of which the backbone is loaded."""

    def make(folder: Path) -> Case:
        network = torchvision.models.segmentation
        model = randomised(getattr(network, name)(weights=None, weights_backbone=None, num_classes=5))
        layers_of = {f"backbone.{layer}".replace(".features", ""): layer for layer in layers}
        return Case(save(model.state_dict(), folder / "weights.pth"), model, layers_of, 224)

    return Row(f"torchvision {name}", "torchvision segmentation", make, cost)


def transformers_folder(
    name: str,
    options: Mapping[str, Any],
    layers: Mapping[str, str],
    *,
    part: str = "",
    size: int = 64,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    processor: bool = True,
    shards: str = "5GB",
) -> Row:
    """Return the row of a transformers model saved with `save_pretrained`, with its image processor's values.

    Args:
        name: Class in transformers.
        options: Of its configuration.
        layers: See `Case`.
        part: The module that takes the images.
        size: Height and width of the input in pixels.
        mean: Mean per channel, written to `preprocessor_config.json`.
        std: Standard deviation per channel.
        processor: Whether the folder has a `preprocessor_config.json`.
        shards: The largest size of a file of weights.
    """

    def make(folder: Path) -> Case:
        model_class = getattr(transformers, name)
        model = randomised(model_class(model_class.config_class(**options)))
        path = folder / "saved"
        model.save_pretrained(path, max_shard_size=shards)
        if processor:
            values = {"image_mean": mean, "image_std": std, "size": {"height": size, "width": size}}
            (path / "preprocessor_config.json").write_text(json.dumps(values))
        return Case(path, model.get_submodule(part), layers, size, mean, std)

    sharded = "" if shards == "5GB" else " sharded"
    return Row(f"transformers {name}{sharded}", "transformers folder", make)


def mae_folder() -> Row:
    """Return the row of a `vit_mae` of transformers with its decoder: its own class hides patches, its encoder not."""

    def make(folder: Path) -> Case:
        decoder = {f"decoder_{name}": VIT[name] for name in ("hidden_size", "intermediate_size")}
        decoder |= {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 4}
        model = randomised(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**VIT, **decoder)))
        model.save_pretrained(folder / "saved")
        encoder = transformers.ViTModel(transformers.ViTConfig(**VIT, layer_norm_eps=1e-12), add_pooling_layer=False)
        encoder.load_state_dict(model.vit.state_dict())
        return Case(folder / "saved", encoder.eval(), same("layers.0", "layernorm"), 64)

    return Row("transformers ViTMAEForPreTraining", "transformers folder", make)


TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}


def open_clip_folder(label: str, vision: Mapping[str, Any], layers: Mapping[str, str], *, cost: Cost = "fast") -> Row:
    """Return the row of an open_clip model in a folder of its hub: weights and `open_clip_config.json`."""

    def make(folder: Path) -> Case:
        vision_config = dict(vision)
        model = randomised(open_clip.CLIP(32, vision_config, TEXT))
        config = {
            "model_cfg": {"embed_dim": 32, "vision_cfg": vision_config, "text_cfg": TEXT},
            "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD},
        }
        (folder / "saved").mkdir()
        (folder / "saved" / "open_clip_config.json").write_text(json.dumps(config))
        save(model.state_dict(), folder / "saved" / "open_clip_model.safetensors")
        return Case(folder / "saved", model, layers, vision_config["image_size"], CLIP_MEAN, CLIP_STD)

    return Row(f"open_clip {label}", "open_clip folder", make, cost)


TIMM = (
    timm_file("resnet18", "layer1.0", "layer4"),
    timm_file("resnet26d", "layer4", suffix=".safetensors"),
    timm_file("resnet10t", "layer4"),
    timm_file("resnet101", "layer4", cost="large"),
    timm_file("seresnext26d_32x4d", "layer4"),
    timm_file("resnext50_32x4d", "layer4", cost="large"),
    timm_file("wide_resnet50_2", "layer4", cost="large"),
    timm_file("densenet121", "features"),
    timm_file("mobilenetv3_small_050", "blocks.5"),
    timm_file("regnetx_002", "s4"),
    timm_file("regnety_002", "s4", suffix=".safetensors"),
    timm_file("convnext_atto", "stages.3"),
    timm_file("convnextv2_atto", "stages.3"),
    timm_file("mobilevit_xxs", "stages.4"),
    timm_file("repvgg_a0", "stages.3"),
    timm_file("hrnet_w18_small", "final_layer"),
    timm_file("vgg11_bn", "features", cost="large"),
    timm_file("swin_tiny_patch4_window7_224", "layers.0", "norm"),
    timm_file("vit_relpos_small_patch16_224", "blocks.11"),
    timm_file("vit_tiny_patch16_dinov3_qkvb", "blocks.11"),
    timm_file("vit_small_patch16_dinov3", "blocks.11"),
    timm_file("eva02_tiny_patch14_224", "blocks.11"),
    timm_file("beit_base_patch16_224", "blocks.11", cost="large"),
    timm_file("deit3_small_patch16_224", "blocks.11"),
    timm_file("xcit_nano_12_p16_224", "blocks.11"),
    timm_file("pvt_v2_b0", "stages.3"),
    timm_file("poolformer_s12", "stages.3"),
    timm_file("samvit_base_patch16", "blocks.11", "neck", cost="large"),
    timm_folder("vit_tiny_patch16_224", "blocks.0", "norm", num_classes=10),
    timm_folder("deit_tiny_patch16_224", "blocks.11", "norm"),
    timm_folder("vit_small_patch14_dinov2", "blocks.11", cost="large"),
    timm_folder("vit_small_patch14_reg4_dinov2", "norm", cost="large", img_size=224),
    timm_folder("convnext_pico", "stages.3"),
    timm_folder("efficientnet_b0", "blocks.6"),
    timm_folder("tf_efficientnet_b0", "blocks.6"),
    timm_folder("swinv2_tiny_window8_256", "layers.3", "norm"),
    timm_folder("mobilenetv2_050", "blocks.6"),
    timm_folder("vit_base_patch16_siglip_224", "norm", cost="large"),
    timm_folder("vit_base_patch32_clip_224", "norm", cost="large"),
)

TORCHVISION = (
    torchvision_file("resnet18", "layer1.0", "layer4"),
    torchvision_file("resnet101", "layer4", cost="large"),
    torchvision_file("densenet121", "features.denseblock4"),
    torchvision_file("mobilenet_v2", "features"),
    torchvision_file("mobilenet_v3_small", "features"),
    torchvision_file("efficientnet_b0", "features"),
    torchvision_file("regnet_y_400mf", "trunk_output"),
    torchvision_file("shufflenet_v2_x0_5", "conv5"),
    torchvision_file("mnasnet0_5", "layers"),
    torchvision_file("squeezenet1_1", "features"),
    torchvision_file("googlenet", "inception5b", cost="large"),
    torchvision_file("convnext_tiny", "features", cost="large"),
    torchvision_file("swin_t", "features", cost="large"),
    torchvision_file("swin_v2_t", "features", cost="large", size=256),
    torchvision_file("vit_b_16", "encoder.layers.encoder_layer_11", "encoder.ln", cost="large"),
    torchvision_file("alexnet", "features", cost="large"),
    torchvision_file("vgg16", "features", cost="large"),
    segmentation_file("fcn_resnet50", "layer4", cost="large"),
    segmentation_file("deeplabv3_resnet50", "layer4", cost="large"),
    segmentation_file("fcn_resnet101", "layer4", cost="large"),
    segmentation_file("deeplabv3_mobilenet_v3_large", "features.12", "features.16"),
    segmentation_file("lraspp_mobilenet_v3_large", "features.16"),
)

VIT = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
VIT |= {"image_size": 64, "patch_size": 16}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
HIERA = {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
BACKBONE = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
SWIN = {"image_size": 64, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
TEXT_TOWER = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXT_TOWER |= {"vocab_size": 64, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
TOWERS = {"vision_config": VIT, "text_config": TEXT_TOWER}
DPT = {
    "num_hidden_layers": 4,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 8, 8, 8],
    "fusion_hidden_size": 8,
}
DINOV2_BACKBONE = {**VIT, "model_type": "dinov2", "patch_size": 14, "image_size": 70, "num_hidden_layers": 4}
DINOV2_BACKBONE |= {"out_indices": [1, 2, 3, 4], "reshape_hidden_states": False}
DEPTH_ANYTHING = {"backbone_config": DINOV2_BACKBONE, "patch_size": 14, "reassemble_hidden_size": 48}
DEPTH_ANYTHING |= {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8, "head_hidden_size": 4}
CONVNEXT_BACKBONE = {**STAGES, "model_type": "convnext", **BACKBONE}
SWIN_BACKBONE = {**SWIN, "model_type": "swin", "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 2}
SWIN_BACKBONE |= BACKBONE
UPERNET = {"backbone_config": CONVNEXT_BACKBONE, "hidden_size": 32, "auxiliary_channels": 8}
UPERNET |= {"auxiliary_in_channels": 24}
MASK2FORMER = {"backbone_config": SWIN_BACKBONE, "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32}
MASK2FORMER |= {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 4}
MASK2FORMER |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16}
SAM = {"vision_config": {**VIT, "output_channels": 16, "window_size": 2, "global_attn_indexes": [2], "mlp_dim": 96}}

TRANSFORMERS = (
    transformers_folder("ViTForImageClassification", VIT, same("layers.2", "layernorm"), mean=HALF, std=HALF),
    transformers_folder("ViTModel", VIT, same("layers.2"), mean=HALF, std=HALF, shards="100KB"),
    transformers_folder("DeiTModel", VIT, same("layers.2", "layernorm")),
    transformers_folder("BeitForImageClassification", VIT, same("layers.2"), mean=HALF, std=HALF),
    transformers_folder("SwinForImageClassification", SWIN, same("swin.encoder.layers.1", "swin.layernorm")),
    transformers_folder("ConvNextForImageClassification", STAGES, same("encoder.stages.3")),
    transformers_folder("ConvNextV2Model", STAGES, same("encoder.stages.3")),
    transformers_folder("ResNetForImageClassification", STAGES, same("encoder.stages.3")),
    transformers_folder("RegNetModel", STAGES, same("encoder.stages.3")),
    transformers_folder("EfficientNetModel", {"image_size": 64, "width_coefficient": 0.5}, same("encoder.top_conv")),
    transformers_folder("MobileNetV2Model", {"depth_multiplier": 0.35, "image_size": 64}, same("conv_1x1")),
    transformers_folder("Dinov2Model", VIT, same("encoder.layer.2", "layernorm")),
    transformers_folder("Dinov2WithRegistersModel", VIT, same("encoder.layer.2", "layernorm")),
    transformers_folder("DINOv3ViTModel", {**VIT, "num_register_tokens": 4}, same("model.layer.2", "norm")),
    transformers_folder("DINOv3ConvNextModel", STAGES, same("stages.3")),
    mae_folder(),
    transformers_folder("HieraModel", HIERA, same("encoder.stages.1", "encoder.stages.3")),
    transformers_folder("ViTMSNModel", VIT, same("layers.2")),
    transformers_folder("Data2VecVisionModel", VIT, same("encoder.layer.2")),
    transformers_folder(
        "CLIPModel", TOWERS, same("encoder.layers.2"), part="vision_model", mean=CLIP_MEAN, std=CLIP_STD
    ),
    transformers_folder("CLIPVisionModel", VIT, same("encoder.layers.2"), mean=CLIP_MEAN, std=CLIP_STD),
    transformers_folder("SiglipModel", TOWERS, same("encoder.layers.2"), part="vision_model", mean=HALF, std=HALF),
    transformers_folder("PvtV2Model", {"hidden_sizes": [8, 16, 40, 64], "depths": [1, 1, 1, 1]}, same("encoder")),
    transformers_folder("SegformerForSemanticSegmentation", STAGES, same("stages.3")),
    transformers_folder("Mask2FormerForUniversalSegmentation", MASK2FORMER, same("swin.encoder")),
    transformers_folder("UperNetForSemanticSegmentation", UPERNET, {"backbone.encoder": "encoder"}),
    transformers_folder("DPTForDepthEstimation", {**VIT, **DPT}, same("dpt.encoder.layer.2")),
    transformers_folder(
        "DepthAnythingForDepthEstimation", DEPTH_ANYTHING, {"backbone.encoder.layer.2": "encoder.layer.2"}, size=70
    ),
    transformers_folder("SamModel", SAM, {"vision_encoder.neck": "neck"}),
)

VISION = {"image_size": 224, "patch_size": 16, "width": 256, "head_width": 64, "layers": 10}
RESNET = {"image_size": 224, "patch_size": None, "width": 64, "layers": [3, 4, 6, 3]}
TIMM_TOWER = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "linear", "image_size": 224}
OPEN_CLIP = (
    open_clip_folder("ViT", VISION, {"visual.transformer.resblocks.9": "blocks.9"}),
    open_clip_folder("ResNet-50", RESNET, {"visual.layer4": "stages.3"}, cost="large"),
    open_clip_folder("timm tower", TIMM_TOWER, {"visual.trunk.blocks.11": "blocks.11"}),
)

LIBRARY_ROWS = (*TIMM, *TORCHVISION, *TRANSFORMERS, *OPEN_CLIP)
