"""A whole mlx-lm model, built from a folder without reading a weight. Called by load.py and by checkpoint facts.

mlx-lm's own `load_model` does the work (config, class, sanitize, quantize), with two hooks on the model instance: the
weights it sanitizes are ours, and loading them is always strict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm import utils as mlx_lm_utils

from mlxctl.errors import CheckpointError
from mlxctl.sharding.arrays import DTYPES
from mlxctl.sharding.random_weights import is_random, random_headers, random_weights
from mlxctl.sharding.safetensors import TensorHeader, safetensors_header

MAX_CONFIG_BYTES = 16_000_000
MAX_LAYERS = 2000
INDEX = "model.safetensors.index.json"
_LAYER_COUNTS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")

Weights = dict[str, mx.array]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A whole model, an nn.Module whose parameters are lazy, and its config."""

    model: Any
    config: Mapping[str, Any]

    @property
    def layer_count(self) -> int:
        return len(self.model.layers)


def read_config(path: Path) -> dict[str, Any]:
    """`config.json` of the model in `path`. Raises CheckpointError, also for a model that brings its own code or claims
    more layers than there can be.
    """
    config = _read_json(path / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"{path / 'config.json'} names no model_type", hint="give the folder of an MLX model")
    if config.get("model_file") is not None:
        raise CheckpointError(
            f"{path} wants to run its own code ({config['model_file']})",
            hint="mlxctl runs no code from a checkpoint; use a model that mlx-lm knows",
        )
    for part in (config, config.get("text_config")):
        for key in _LAYER_COUNTS:
            if isinstance(part, dict) and isinstance(count := part.get(key), int) and count > MAX_LAYERS:
                message = f"{path / 'config.json'} claims {count} layers, more than the {MAX_LAYERS} allowed"
                raise CheckpointError(message, hint="download the model again")
    return config


def read_headers(path: Path, elsewhere: Collection[str] = ()) -> dict[str, TensorHeader]:
    """Every tensor of the safetensors files in `path`, by name, after checking each file's header.

    Raises CheckpointError for a broken file, a tensor in two files, and a file of the index that is not there although
    one of its tensors is not known to be `elsewhere`.
    """
    if is_random(path):
        return random_headers(path)
    files = sorted(path.glob("model*.safetensors"))
    check_index(path, {file.name for file in files}, elsewhere)
    if not files and not elsewhere:
        raise CheckpointError(f"no safetensors files in {path}", hint="download the model again")
    return joined_headers({str(file): safetensors_header(file) for file in files})


def joined_headers(files: Mapping[str, Mapping[str, TensorHeader]]) -> dict[str, TensorHeader]:
    """The tensors of all `files`. Raises CheckpointError for one that is in two of them."""
    headers: dict[str, TensorHeader] = {}
    for file, found in files.items():
        if twice := headers.keys() & found.keys():
            raise CheckpointError(
                f"{file} holds tensor {min(twice)!r}, as another file does", hint="remove the file that does not belong"
            )
        headers.update(found)
    return headers


def build_model(path: Path, absent: Mapping[str, TensorHeader] = MappingProxyType({})) -> LoadedModel:
    """The model in `path`, its parameters lazily loaded from its files, which need not hold the tensors `absent`.

    These become NaN (integers: zero), so that a result that wrongly hangs on one is not a number. Raises
    CheckpointError.
    """
    config = read_config(path)
    present = read_headers(path, absent)
    phantoms = {name: _phantom(header) for name, header in absent.items() if name not in present}
    drawn = random_weights(path) if is_random(path) else {}
    return _build(path, config, lambda found: {**found, **drawn, **phantoms})


def build_skeleton(path: Path, headers: Mapping[str, TensorHeader]) -> LoadedModel:
    """The model that the config in `path` and `headers` describe, with lazy zeros for parameters: right dtypes, shapes
    and quantization, but nothing is read and nothing can be. Needs no safetensors file. Raises CheckpointError.
    """
    forms = {(header.shape, header.dtype) for header in headers.values()}  # few, where experts are tens of thousands
    phantoms = {(shape, dtype): mx.zeros(shape, DTYPES[dtype]) for shape, dtype in forms}
    loaded = build_on(path, {name: phantoms[header.shape, header.dtype] for name, header in headers.items()})
    # Stacked or transposed phantoms are long graphs; a plain zero for each parameter is as good.
    loaded.model.update(tree_map(lambda array: mx.zeros(array.shape, array.dtype), loaded.model.parameters()))
    return loaded


def build_on(path: Path, weights: Mapping[str, mx.array]) -> LoadedModel:
    """The model that the config in `path` describes, its parameters computed from `weights`, named as in its files.
    Nothing is evaluated. Raises CheckpointError.
    """
    return _build(path, read_config(path), lambda _found: dict(weights))


def _phantom(header: TensorHeader) -> mx.array:
    dtype = DTYPES[header.dtype]
    return mx.full(header.shape, math.nan if mx.issubdtype(dtype, mx.floating) else 0, dtype)


def _build(path: Path, config: Mapping[str, Any], supply: Callable[[Weights], Weights]) -> LoadedModel:
    try:
        model, full_config = mlx_lm_utils.load_model(
            path, lazy=True, strict=False, get_model_classes=lambda config: _classes(config, supply)
        )
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"mlx-lm cannot build the {config['model_type']} model in {path}: {_one_line(error)}",
            hint="config.json and the safetensors files must be of one model that the installed mlx-lm supports",
        ) from error
    for hook in ("sanitize", "load_weights"):
        vars(model).pop(hook, None)
    return LoadedModel(model, full_config)


def _classes(config: dict[str, Any], supply: Callable[[Weights], Weights]) -> tuple[Callable[[Any], Any], Any]:
    try:
        model_class, args_class = mlx_lm_utils._get_classes(config)
    except SystemExit as error:  # mlx-lm's olmo leaves the process where a package is missing
        raise CheckpointError(f"mlx-lm cannot import its {config['model_type']} model: {error}") from None

    def build(args: Any) -> Any:
        model = model_class(args)
        sanitize = getattr(model, "sanitize", lambda weights: weights)
        load_weights = model.load_weights
        model.sanitize = lambda found: sanitize(supply(found))
        model.load_weights = lambda weights, strict=True: load_weights(weights, strict=True)
        return model

    return build, args_class


def check_index(path: Path, present: Collection[str], elsewhere: Collection[str] = ()) -> None:
    """Raises CheckpointError if the index in `path`, where there is one, lists a file that is not `present` although
    one of its tensors is not known to be `elsewhere`.
    """
    if not (path / INDEX).exists():
        return
    listed = _read_json(path / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
        raise CheckpointError(f"{path / INDEX} has no weight_map", hint="download the model again")
    if missing := {file for tensor, file in listed.items() if tensor not in elsewhere} - set(present):
        others = f" and {len(missing) - 1} other files" if len(missing) > 1 else ""
        raise CheckpointError(
            f"{path} lacks {min(missing)}{others} that its index lists", hint="download the model again"
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{file} is larger than {MAX_CONFIG_BYTES} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"cannot read {file}: {error.strerror}", hint="give a folder with config.json and model*.safetensors"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}", hint="download the model again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} is not a JSON object", hint="download the model again")
    return content


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"
