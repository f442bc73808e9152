"""Weights drawn where they are needed: a folder with `random.json` instead of safetensors files. Called by model.py.

Each tensor is drawn from the seed and its own name, so that every node makes the same ones, and only those it runs.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxctl.errors import CheckpointError
from mlxctl.sharding.arrays import DTYPES
from mlxctl.sharding.safetensors import TensorHeader

RANDOM = "random.json"
_QUANTIZED = ".scales"


@dataclass(frozen=True, slots=True)
class RandomModel:
    """What random.json says: tensors as (dtype, shape); `bits` and `group_size` of those that are quantized."""

    seed: int
    bits: int
    group_size: int
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]

    def to_json(self) -> str:
        """What `read_random` reads back."""
        fields = {"seed": self.seed, "bits": self.bits, "group_size": self.group_size}
        return json.dumps({**fields, "tensors": dict(self.tensors)})


def is_random(path: Path) -> bool:
    """Whether the model in the folder `path` has random weights."""
    return (path / RANDOM).is_file()


def read_random(path: Path) -> RandomModel:
    """The file in the folder `path`. Raises CheckpointError."""
    try:
        content = json.loads((path / RANDOM).read_text(encoding="utf-8"))
        tensors = {name: (dtype, tuple(shape)) for name, (dtype, shape) in content["tensors"].items()}
        return RandomModel(content["seed"], content["bits"], content["group_size"], tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / RANDOM} is broken: {error}", hint="remove its folder") from error


def random_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors as if they lay in a file one behind the other."""
    headers, end = dict[str, TensorHeader](), 0
    for name, (dtype, shape) in read_random(path).tensors.items():
        start, end = end, end + math.prod(shape) * DTYPES[dtype].size
        headers[name] = TensorHeader(dtype, shape, start, end)
    return headers


def random_weights(path: Path) -> dict[str, mx.array]:
    """All tensors by name, lazy: one that nobody evaluates costs nothing."""
    model = read_random(path)
    return {name: _draw(model, name, dtype, shape) for name, (dtype, shape) in model.tensors.items()}


def _draw(model: RandomModel, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    """Of a size that keeps activations finite: norms are 1, matrices have 1 / sqrt(inputs) as standard deviation."""
    module, _, kind = name.rpartition(".")
    to: Any = DTYPES[dtype]
    if module + _QUANTIZED in model.tensors:
        inputs = model.tensors[module + _QUANTIZED][1][-1] * model.group_size
        step = math.sqrt(12 / inputs) / 2**model.bits
        if kind == "scales":
            return mx.full(shape, step, to)
        if kind == "biases":
            return mx.full(shape, -step * (2**model.bits - 1) / 2, to)
    key = mx.random.key(model.seed * 2**32 + zlib.crc32(name.encode()))
    if to == mx.uint32:
        words: Any = mx.random.randint(0, 2**32 - 1, shape, mx.uint32, key=key)
        return words ^ (words >> 16)  # drawn as floating point: the low bits are not random by themselves
    if len(shape) < 2:
        return mx.zeros(shape, to) if kind == "bias" else mx.ones(shape, to)
    drawn: Any = mx.random.normal(shape, key=key) / math.sqrt(shape[-1])
    return drawn.astype(to)
