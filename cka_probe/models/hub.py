"""Folders of weights on the Hugging Face Hub: `hf://org/name`, `timm:NAME`, and folders of its local cache.

What is in the cache is used as it is, without a request. Without a network the error comes at once; the hub's own
client would try five times for each of several files, which takes a minute.
"""

import os
import socket
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from cka_probe.errors import CheckpointError

SCHEME = "hf://"

FILES = ("*.json", "*.safetensors", "*.bin", "*.npz", "*.pth", "*.pt")
"""What is downloaded of a repository, from its top folder."""

PATIENCE = 3.0
"""Seconds to wait for a connection."""


def snapshot(repository: str) -> Path:
    """Return the local folder of a repository, downloaded if it is not in the cache.

    Args:
        repository: `org/name`, or `org/name@revision`.

    Raises:
        CheckpointError: It is not in the cache, and there is no network or no such repository.
    """
    name, _, revision = repository.partition("@")
    download = partial(snapshot_download, name, revision=revision or None, allow_patterns=list(FILES))
    try:
        cached = Path(str(download(local_files_only=True)))
        if any(any(cached.glob(pattern)) for pattern in FILES[1:]):
            return cached
    except (LocalEntryNotFoundError, ValueError):
        pass
    if not reachable():
        raise CheckpointError(
            f"{SCHEME}{repository}: expected it in the local cache ({constants.HF_HUB_CACHE}) or a network, found "
            "neither; download it where there is one, and give its folder"
        )
    try:
        return Path(str(download(ignore_patterns=["onnx/*", "*/*"])))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{SCHEME}{repository}: expected a public repository of the hub, found none that can be read "
            f"({str(error).splitlines()[0][:100]}); check its name, or log in with `hf auth login`"
        ) from error


def reachable() -> bool:
    """Return whether the hub answers; True behind a proxy, where only a request can tell."""
    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlsplit(constants.ENDPOINT)
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), PATIENCE).close()
    except OSError:
        return False
    return True


def cached_folder(path: Path) -> Path:
    """Return the newest snapshot in a `models--org--name` folder of the hub's cache; any other path as it is."""
    snapshots = path / "snapshots"
    if not snapshots.is_dir():
        return path
    main = path / "refs" / "main"
    revisions = [snapshots / main.read_text(encoding="utf-8", errors="replace").strip()] if main.is_file() else []
    revisions += sorted(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    return next((revision for revision in revisions if revision.is_dir()), path)


def repository_of(name: str) -> str | None:
    """Return the repository with timm's weights of a model, `None` if they are elsewhere.

    >>> repository_of("resnet18.a1_in1k")
    'timm/resnet18.a1_in1k'
    """
    config: Any = timm.get_pretrained_cfg(name)
    repository = str(getattr(config, "hf_hub_id", None) or "")
    return f"{repository}{config.architecture}.{config.tag}" if repository.endswith("/") else repository or None
