"""Well-known models without their weights: `random:qwen3-8b-4bit` as a folder. Called by checkpoint and the worker.

The folder has the config of the model, the canary's tokenizer with as many tokens as the model has, and random.json.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from mlx.utils import tree_flatten

from mlxctl import paths
from mlxctl.canary import MODEL_DIR
from mlxctl.errors import CheckpointError
from mlxctl.sharding.arrays import dtype_name
from mlxctl.sharding.from_config import build_from_config
from mlxctl.sharding.random_weights import RANDOM, RandomModel

PREFIX = "random:"
GROUP_SIZE = 64
SEED = 0
FORMATS: dict[str, dict[str, Any]] = {
    "4bit": {"quantization": {"group_size": GROUP_SIZE, "bits": 4, "mode": "affine"}},
    "8bit": {"quantization": {"group_size": GROUP_SIZE, "bits": 8, "mode": "affine"}},
    "bf16": {},
    "fp32": {"torch_dtype": "float32"},
}
_PRESETS = Path(__file__).with_name("presets.yaml")
_TOKENIZER_FILES = ("tokenizer_config.json", "chat_template.jinja")


@cache
def presets() -> dict[str, dict[str, Any]]:
    """Configs by the name of the model."""
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(_PRESETS.read_text(encoding="utf-8"))
    return loaded


def is_random_name(name: str) -> bool:
    """Whether `name` asks for random weights."""
    return name.startswith(PREFIX)


def random_folder(name: str) -> Path:
    """The folder of `random:MODEL-FORMAT`, made if it is not there. Raises CheckpointError."""
    model, _, form = name.removeprefix(PREFIX).rpartition("-")
    if model not in presets() or form not in FORMATS:
        raise _unknown(name)
    folder = paths.random_dir() / f"{model}-{form}"
    if not (folder / RANDOM).is_file():
        _make(folder, {**presets()[model], **FORMATS[form]})
    return folder


def random_name(folder: Path) -> str | None:
    """What `random_folder` makes `folder` of; None for any other folder."""
    return PREFIX + folder.name if folder.parent == paths.random_dir() else None


def _make(folder: Path, config: dict[str, Any]) -> None:
    """Whole or not at all: the folder gets its name last."""
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    (fresh / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for file in _TOKENIZER_FILES:
        shutil.copyfile(MODEL_DIR / file, fresh / file)
    (fresh / "tokenizer.json").write_text(_tokenizer(config["vocab_size"]), encoding="utf-8")
    parameters = tree_flatten(build_from_config(fresh).model.parameters())
    tensors = {name: (dtype_name(array), tuple(array.shape)) for name, array in parameters}
    bits = config.get("quantization", {}).get("bits", 0)
    (fresh / RANDOM).write_text(RandomModel(SEED, bits, GROUP_SIZE, tensors).to_json(), encoding="utf-8")
    try:
        fresh.rename(folder)
    except OSError:  # another process was first, or a torn folder is in the way
        shutil.rmtree(folder if not (folder / RANDOM).is_file() else fresh, ignore_errors=True)
        if fresh.exists():
            fresh.rename(folder)


def _tokenizer(vocab_size: int) -> str:
    """The canary's, with words of no meaning for all other ids, so that each has a text."""
    content = json.loads((MODEL_DIR / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in content["added_tokens"])}
    vocabulary.update({f"\u0120<{number}>": number for number in range(vocab_size) if number not in taken})
    return json.dumps(content, ensure_ascii=False)


def _unknown(name: str) -> CheckpointError:
    known = [f"{PREFIX}{model}-4bit" for model in presets()]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"models: {', '.join(presets())}; formats: {', '.join(FORMATS)}"
    return CheckpointError(f"{name!r} is no model that is known by its shape", hint=hint)
