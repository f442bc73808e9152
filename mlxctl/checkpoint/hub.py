"""A model on a hub → a folder here with all of it but the weights: config, tokenizer, and the beginnings of its
safetensors files, which tell every tensor. Called by resolve and by `mlxctl models pull`.

    <home>/hub/models--org--name/refs/main            the commit that was meant when it was first asked for
    <home>/hub/models--org--name/snapshots/<commit>/  config.json, tokenizer.json …, headers/model.safetensors
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mlxctl import paths
from mlxctl.errors import CheckpointError
from mlxctl.hub import HubClient, access_from_environment
from mlxctl.sharding.model import INDEX, check_index
from mlxctl.sharding.safetensors import LENGTH_BYTES, TensorHeader, header_length, parse_header

HEADERS = "headers"
WEIGHTS = "model*.safetensors"
SMALL = ("*.json", "*.jinja", "*.txt", "*.tiktoken", "*.model")
MAX_SMALL_BYTES = 128_000_000
MAX_FILES = 10_000
FIRST_BYTES = 1 << 17  # mostly holds the whole header
PARALLEL = 8
ATTEMPTS = 3  # somebody waits
_FILE = re.compile(r"[A-Za-z0-9][\w.+-]{0,199}", re.ASCII)
_OTHER_WEIGHTS = ("*.gguf", "*.bin", "*.pth", "*.pt", "*.safetensors", "*.npz")
_lock = threading.Lock()


def hub_folder(repo: str) -> Path:
    """Where what is known of the model `repo` lies; it need not exist."""
    return paths.hub_dir() / f"models--{repo.replace('/', '--')}"


def fetch(repo: str, revision: str, ref: str) -> Path:
    """The folder of the model `repo` at `revision`, asked of the hub now; from now on `ref` means this commit.

    Raises CheckpointError, AuthenticationError: not there, gated, unreachable, broken, or not to be read without
    running its own code.
    """
    with _lock, HubClient(access_from_environment(), ATTEMPTS) as hub:
        document = hub.model(repo, revision)
        commit = str(document["sha"])
        folder = hub_folder(repo) / "snapshots" / commit
        if not folder.is_dir():
            _fill(hub, repo, commit, _files(repo, document), folder)
        pinned = hub_folder(repo) / "refs" / ref
        pinned.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pinned.write_text(commit, encoding="utf-8")
        return folder


def stored_headers(folder: Path) -> dict[str, tuple[int, dict[str, TensorHeader]]]:
    """Size and tensors of each safetensors file of a folder made by `fetch`. Raises CheckpointError."""
    found = {}
    for file in sorted((folder / HEADERS).iterdir()):
        data = file.read_bytes()
        (size_bytes,) = struct.unpack("<Q", data[:LENGTH_BYTES])
        found[file.name] = (size_bytes, parse_header(data[2 * LENGTH_BYTES :], size_bytes, str(file)))
    return found


def _files(repo: str, document: Mapping[str, Any]) -> list[str]:
    """Names of the files at the repository's top. Raises CheckpointError for a model that cannot be read here."""
    siblings = document.get("siblings")
    names = [entry.get("rfilename") for entry in siblings if isinstance(entry, dict)] if siblings else []
    files = [name for name in names[:MAX_FILES] if isinstance(name, str) and _FILE.fullmatch(name)]
    if "config.json" not in files:
        raise CheckpointError(f"{repo} has no config.json", hint="use a model that mlx-lm can load")
    if not any(fnmatch(name, WEIGHTS) for name in files):
        others = [name for name in files if any(fnmatch(name, pattern) for pattern in _OTHER_WEIGHTS)]
        raise CheckpointError(
            f"{repo} has no {WEIGHTS} files" + (f", only others such as {others[0]}" if others else ""),
            hint="only safetensors are read; look for a version made for MLX, such as mlx-community's",
        )
    return files


def _fill(hub: HubClient, repo: str, commit: str, files: Sequence[str], folder: Path) -> None:
    """Make `folder`, all of it or nothing."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as name:
        new = Path(name) / commit
        (new / HEADERS).mkdir(parents=True)
        for file in files:
            if any(fnmatch(file, pattern) for pattern in SMALL):
                (new / file).write_bytes(hub.file(repo, commit, file, MAX_SMALL_BYTES))
        _refuse_own_code(repo, new, files)
        weights = [file for file in files if fnmatch(file, WEIGHTS)]
        _check_complete(repo, new, weights)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="headers") as pool:
            headers = pool.map(lambda file: _header(hub, repo, commit, file), weights)
            for file, data in zip(weights, headers, strict=True):
                (new / HEADERS / file).write_bytes(data)
        with suppress(FileExistsError):  # another process was faster
            new.rename(folder)


def _header(hub: HubClient, repo: str, commit: str, file: str) -> bytes:
    """The length of a safetensors file, then its beginning up to the end of its header, which is sound."""
    name = f"{repo}: {file}"
    data, size_bytes = hub.beginning(repo, commit, file, FIRST_BYTES)
    end = LENGTH_BYTES + header_length(data, size_bytes, name)
    data = data[:end] + b"".join(hub.read(repo, commit, file, len(data), end))
    parse_header(data[LENGTH_BYTES:], size_bytes, name)
    return struct.pack("<Q", size_bytes) + data


def _check_complete(repo: str, folder: Path, weights: Sequence[str]) -> None:
    """Raises CheckpointError if the index lists files that the repository lacks."""
    try:
        check_index(folder, weights)
    except CheckpointError as error:
        message = error.message.replace(str(folder / INDEX), f"{repo}: {INDEX}").replace(str(folder), repo)
        raise CheckpointError(message, hint="use another version of the model") from None


def _refuse_own_code(repo: str, folder: Path, files: Sequence[str]) -> None:
    """Raises CheckpointError for a model that can only be loaded by running code that comes with it."""
    settings = _read(folder / "config.json"), _read(folder / "tokenizer_config.json")
    code = settings[0].get("model_file")
    tokenizer = settings[1].get("auto_map")
    if code is None and isinstance(tokenizer, dict) and "AutoTokenizer" in tokenizer and "tokenizer.json" not in files:
        code = next((part for part in _flat(tokenizer["AutoTokenizer"]) if part), "its tokenizer's")
    if code is not None:
        raise CheckpointError(
            f"{repo} needs code of its own to be run ({code}), and mlxctl runs no code from a checkpoint",
            hint="use a version that mlx-lm and transformers know without it",
        )


def _flat(value: Any) -> list[str]:
    return [str(part) for part in value if part] if isinstance(value, list) else [str(value)]


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # said by whoever needs it
    return document if isinstance(document, dict) else {}
