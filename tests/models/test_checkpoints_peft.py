"""Adapters that PEFT trained and saved: the weights are those of its own `merge_and_unload`, or the method is named."""

import pytest
import timm
import torch
from helpers.foreign import randomised

from cka_probe.errors import CheckpointError
from cka_probe.models.load import load

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT uses deprecated names of transformers

QUERY = ["q_proj", "v_proj"]
NAMES = {"LNTuning": "LN_TUNING"}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def transformers_vit(folder, labels=5):
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=16, num_labels=labels)
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(folder)
    return model.eval()


def timm_model(name):
    def make(folder):
        model = randomised(timm.create_model(name, num_classes=5))
        folder.mkdir()
        torch.save(model.state_dict(), folder / "model.pth")
        return model

    return make


def trained(model, config, folder):
    """Save an adapter with random weights, and return PEFT's merged model."""
    import peft

    model = peft.get_peft_model(model, config)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(str(folder))
    return model.merge_and_unload().state_dict()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (transformers_vit, {"target_modules": QUERY}),
        (transformers_vit, {"target_modules": r".*\.(q_proj|fc1)", "rank_pattern": {"q_proj": 2}}),
        (transformers_vit, {"target_modules": QUERY, "alpha_pattern": {"v_proj": 9, r"layers\.0\..*q_proj": 3}}),
        (transformers_vit, {"target_modules": QUERY, "use_rslora": True, "lora_bias": True}),
        (transformers_vit, {"target_modules": [*QUERY, "projection"], "use_dora": True}),
        (transformers_vit, {"target_modules": QUERY, "modules_to_save": ["classifier"], "bias": "all"}),
        (transformers_vit, {"target_modules": "all-linear", "bias": "lora_only", "init_lora_weights": "orthogonal"}),
        (timm_model("test_vit"), {"target_modules": ["qkv", "proj"], "modules_to_save": ["head"], "use_dora": True}),
        (timm_model("test_resnet"), {"target_modules": r"layer.*conv[12]", "modules_to_save": ["bn1"], "bias": "all"}),
        (timm_model("test_resnet"), {"target_modules": r"layer.*conv[12]", "use_dora": True}),
    ],
)
def test_the_weights_are_those_that_peft_merges(tmp_path, make, options):
    from peft import LoraConfig

    model = make(tmp_path / "base")
    expected = trained(model, LoraConfig(r=4, lora_alpha=6, **options), tmp_path / "lora")
    backbone = load(tmp_path / "lora", base=tmp_path / "base")
    state = backbone.model.state_dict()
    if backbone.classifier is not None:
        state |= {
            f"{name}.{part}": value
            for name in ("head", "fc")
            for part, value in backbone.classifier.state_dict().items()
        }
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_a_classifier_of_other_classes(tmp_path):
    from peft import LoraConfig

    transformers_vit(tmp_path / "base")
    model = transformers_vit(tmp_path / "other", labels=7)
    expected = trained(model, LoraConfig(target_modules=QUERY, modules_to_save=["classifier"]), tmp_path / "lora")
    backbone = load(tmp_path / "lora", base=tmp_path / "base")
    torch.testing.assert_close(backbone.model.state_dict()["classifier.weight"], expected["classifier.weight"])


@pytest.mark.parametrize("method", ["IA3", "LoHa", "LoKr", "AdaLora", "OFT", "Vera", "LNTuning", "PiSSA", "OLoRA"])
def test_other_methods_are_named(tmp_path, method):
    import peft

    options = {
        "IA3": {"feedforward_modules": []},
        "AdaLora": {"total_step": 9},
        "OFT": {"oft_block_size": 4},
        "PiSSA": {"init_lora_weights": "pissa"},
        "OLoRA": {"init_lora_weights": "olora"},
    }
    builder = getattr(peft, f"{method}Config", peft.LoraConfig)
    targets = ["layernorm_before"] if method == "LNTuning" else QUERY
    model = transformers_vit(tmp_path / "base")
    peft.get_peft_model(model, builder(target_modules=targets, **options.get(method, {}))).save_pretrained(
        tmp_path / "a"
    )
    for base in (None, tmp_path / "base"):
        with pytest.raises(
            CheckpointError, match=rf"(?i)found (init_lora_weights=)?{NAMES.get(method, method)}; merge it"
        ):
            load(tmp_path / "a", base=base)
