"""Write small files in the true formats of other projects, from a timm Swin-v2 or ResNet."""

import argparse
import pathlib
import sys
import types
from collections import OrderedDict, defaultdict
from contextlib import contextmanager

import numpy as np
import torch
from safetensors.torch import save_file

from cka_probe.models.architectures import ARCHITECTURES


def randomised(model, seed=0):
    """Give every parameter and statistic its own value, norms included: at the start Swin's are 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            fan = tensor[0].numel() if tensor.ndim > 1 else 1
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.2 * noise.abs())
            elif name.endswith("logit_scale"):
                tensor.copy_(1.5 + 0.2 * noise)
            elif tensor.ndim == 1 and name.endswith("weight"):
                tensor.copy_(1 + 0.2 * noise)
            else:
                tensor.copy_(noise * (fan**-0.5 if tensor.ndim > 1 else 0.1))
    return model.eval()


def swin(seed=0, **options):
    return randomised(ARCHITECTURES["swinv2_micro"].build(**{"size": 64, **options}), seed)


def resnet(seed=0):
    return randomised(ARCHITECTURES["resnet18"].build(size=64), seed)


def prefixed(prefix, state):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def buffers(model, *, masks=True):
    """The buffers that the original registers and timm does not save."""
    state = {}
    for i, stage in enumerate(model.layers):
        for j, block in enumerate(stage.blocks):
            front = f"layers.{i}.blocks.{j}"
            state[f"{front}.attn.relative_coords_table"] = block.attn.relative_coords_table
            state[f"{front}.attn.relative_position_index"] = block.attn.relative_position_index
            if masks and block.attn_mask is not None:
                state[f"{front}.attn_mask"] = block.attn_mask
    return state


def microsoft(model, *, with_buffers=True, masks=True):
    """timm's names turned into the original's: each merging moves to the end of the stage before."""
    state = OrderedDict()
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        state[".".join(parts)] = tensor
    return state | (buffers(model, masks=masks) if with_buffers else {})


def mim_depth_names(state):
    new = OrderedDict()
    for name, tensor in state.items():
        name = name.replace("cpb_mlp", "rpe_mlp")
        new[f"norm3.{name[5:]}" if name.startswith("norm.") else name] = tensor
    return new


def yacs_like(size=64, window=4):
    node = sys.modules["yacs.config"].CfgNode
    swinv2 = node(WINDOW_SIZE=window, PRETRAINED_WINDOW_SIZES=[0, 0, 0, 0])
    config = node(DATA=node(IMG_SIZE=size), MODEL=node(SWINV2=swinv2), TAG="pretrain")
    config.__dict__["__frozen__"] = True
    return config


@contextmanager
def a_module(name, **members):
    """Let a module of this name exist while something is pickled."""
    front = name.split(".")[0]
    added = {front: types.ModuleType(front), name: types.ModuleType(name)}
    for key, value in members.items():
        value.__module__ = name
        value.__qualname__ = key
        setattr(added[name], key, value)
    sys.modules.update(added)
    try:
        yield
    finally:
        for key in added:
            del sys.modules[key]


def simmim(path, model, *, cpb="rpe_mlp", with_buffers=True, config=True):
    state = prefixed("encoder.", microsoft(model, with_buffers=with_buffers))
    state = OrderedDict((name.replace("cpb_mlp", cpb), tensor) for name, tensor in state.items())
    state["encoder.mask_token"] = torch.zeros(1, 1, 32)
    state["decoder.0.weight"], state["decoder.0.bias"] = torch.zeros(3072, 256, 1, 1), torch.zeros(3072)
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3), "step": 4}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    whole = {"model": state, "optimizer": optimizer, "lr_scheduler": {"base_values": [1e-4]}, "epoch": 799}
    whole |= {"max_accuracy": np.float64(0.5), "scaler": {"scale": 65536.0}}
    with a_module("yacs.config", CfgNode=type("CfgNode", (dict,), {})):
        if config:
            whole["config"] = yacs_like()
        torch.save(whole, path)
    return path


def swin_classifier(path, model):
    state = microsoft(model) | {"head.weight": torch.zeros(10, 256), "head.bias": torch.zeros(10)}
    torch.save({"model": state}, path)
    return path


def mim_depth(path, model, *, own=False):
    encoder = mim_depth_names(microsoft(model, masks=False))
    state = prefixed("encoder.", encoder)
    state["decoder.deconv_layers.0.weight"] = torch.zeros(256, 32, 2, 2)
    state["decoder.conv_layers.0.weight"] = torch.zeros(32, 32, 3, 3)
    state["last_layer_depth.0.weight"] = torch.zeros(32, 32, 3, 3)
    state["last_layer_depth.2.weight"] = torch.zeros(1, 32, 3, 3)
    torch.save({"model": prefixed("module.", state), "optimizer": {"state": {}}} if own else state, path)
    return path


def mim_depth_init(path, model):
    state = OrderedDict((name.replace("cpb_mlp", "rpe_mlp"), value) for name, value in microsoft(model).items())
    torch.save({"module": state}, path)
    return path


def sc_depth(path, model):
    state = prefixed("depth_net.encoder.encoder.", model.state_dict() | {"fc.weight": torch.zeros(10, 512)})
    state["depth_net.decoder.upconvs0.0.conv.conv.weight"] = torch.zeros(4, 4, 3, 3)
    pairs = dict(model.state_dict())
    pairs["conv1.weight"] = torch.cat([pairs["conv1.weight"]] * 2, dim=1) / 2
    state |= prefixed("pose_net.encoder.encoder.", pairs)
    state["pose_net.decoder.conv_squeeze.weight"] = torch.zeros(4, 4, 1, 1)
    hparams = argparse.Namespace(model_version="v3", dataset_dir=pathlib.PosixPath("data"), lr=1e-4)
    whole = {
        "epoch": 3,
        "global_step": 12,
        "pytorch-lightning_version": "1.7.3",
        "state_dict": state,
        "loops": {},
        "callbacks": defaultdict(dict, {"best": {"score": np.float32(0.1), "curve": np.ones(2)}}),
        "hparams_name": "hparams",
        "hyper_parameters": {"hparams": hparams},
    }
    torch.save(whole, path)
    return path


def sc_sfm(path, model, *, legacy=True):
    state = prefixed("encoder.encoder.", model.state_dict())
    state["decoder.0.conv.conv.weight"] = torch.zeros(4, 4, 3, 3)
    torch.save({"epoch": 5, "state_dict": state}, path, _use_new_zipfile_serialization=not legacy)
    return path


def monodepth2(folder, model, *, height=192, width=640):
    folder.mkdir()
    state = prefixed("encoder.", model.state_dict() | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)})
    torch.save(state | {"height": height, "width": width, "use_stereo": True}, folder / "encoder.pth")
    pairs = prefixed("encoder.", model.state_dict())
    pairs["encoder.conv1.weight"] = torch.zeros(64, 6, 7, 7)
    torch.save(pairs, folder / "pose_encoder.pth")
    torch.save({"decoder.0.conv.conv.weight": torch.zeros(4, 4, 3, 3)}, folder / "depth.pth")
    return folder


def torchvision_resnet(path, model, *, counters=True):
    state = model.state_dict() | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    torch.save({name: value for name, value in state.items() if counters or "num_batches" not in name}, path)
    return path


def moco(path, model):
    state = prefixed("module.encoder_q.", model.state_dict() | {"fc.0.weight": torch.zeros(512, 512)})
    state |= prefixed("module.encoder_k.", resnet(seed=9).state_dict())
    state |= {"module.queue": torch.zeros(128, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}, path)
    return path


def dino(path, model):
    student = prefixed("module.backbone.", resnet(seed=9).state_dict())
    teacher = prefixed("backbone.", model.state_dict()) | {"head.mlp.0.weight": torch.zeros(8, 512)}
    torch.save({"student": student, "teacher": teacher, "epoch": 1, "args": argparse.Namespace(arch="resnet18")}, path)
    return path


def timm_file(path, model, *, head=True):
    state = dict(model.state_dict())
    if head:
        state |= {"head.fc.weight": torch.zeros(10, 256), "head.fc.bias": torch.zeros(10)}
    state = {name: tensor.clone() for name, tensor in state.items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def transformers_names(model):
    """timm's Swin-v2 as transformers names it: the attention in three, and much else."""
    state = {}
    for name, tensor in microsoft(model, with_buffers=False).items():
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("patch_embed.norm", "embeddings.norm")
        name = f"encoder.{name}" if name.startswith("layers.") else name
        name = f"layernorm.{name[5:]}" if name.startswith("norm.") else name
        name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
        name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        name = name.replace("attn.proj", "attention.output.dense").replace("attn.", "attention.self.")
        name = name.replace("cpb_mlp", "continuous_position_bias_mlp")
        if name.endswith("qkv.weight"):
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                state[name.replace("qkv", part)] = third.clone()
        else:
            state[name.replace("q_bias", "query.bias").replace("v_bias", "value.bias")] = tensor.clone()
    return state


def transformers_file(path, model, *, prefix="swinv2."):
    state = prefixed(prefix, transformers_names(model))
    if prefix:
        state["classifier.weight"] = torch.zeros(10, 256)
    save_file(dict(state), path)
    return path
