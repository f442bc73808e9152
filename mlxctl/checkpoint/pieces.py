"""Which tensors of a checkpoint's files which layers hang on, by watching the unevaluated model. Called by manifests.

mlx-lm renames, splits and stacks tensors on the way from files to parameters. So names alone do not tell; they only
group: tensors with the same name up to the first number share one placeholder, whose way into the parameters is traced.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlxctl.checkpoint.reads import outer_parameters, reads
from mlxctl.sharding.arrays import DTYPES
from mlxctl.sharding.graph import dependencies
from mlxctl.sharding.model import build_on, build_skeleton
from mlxctl.sharding.safetensors import TensorHeader

_GROUP = re.compile(r"^.*?\.\d+\.|^.*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """Tensors that the same layers hang on, `needs`; the layer count stands for the logits."""

    name: str
    needs: tuple[int, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SortedTensors:
    """A model's pieces in the order of its layers. Tensors that nothing hangs on are in none."""

    layer_count: int
    pieces: tuple[Piece, ...]


def sort_tensors(path: Path, headers: Mapping[str, TensorHeader]) -> SortedTensors:
    """The pieces of the model in `path`, whose files hold the tensors `headers`. Raises CheckpointError."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(headers):
        groups[_group(name)].append(name)
    roots = {group: mx.zeros((), mx.uint8) for group in groups}
    weights = {name: _grown(roots[_group(name)], header) for name, header in headers.items()}
    model = build_on(path, weights).model
    readers = reads(build_skeleton(path, headers).model).readers
    needs = _needs(model, readers, roots)
    tensors: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for group, names in groups.items():
        if needs[group]:
            tensors[tuple(sorted(needs[group]))] += names
    count = len(model.layers)
    pieces: list[Piece] = []
    for wanted, names in sorted(tensors.items()):
        shared = sum(len(piece.needs) > 1 for piece in pieces)
        pieces.append(Piece(_name(wanted, count, shared), wanted, tuple(names)))
    return SortedTensors(count, tuple(pieces))


def _group(tensor: str) -> str:
    found = _GROUP.match(tensor)
    assert found is not None
    return found[0]


def _grown(root: mx.array, header: TensorHeader) -> mx.array:
    """A lazy array like the tensor that hangs on `root`; a new one also where it has root's dtype and shape."""
    return mx.broadcast_to((root + 0).astype(DTYPES[header.dtype]), header.shape)


def _needs(
    model: Any, readers: Mapping[str, frozenset[int]], roots: Mapping[str, mx.array]
) -> dict[str, frozenset[int]]:
    """For each group the layers that hang on it: those whose own parameters do, and the readers of all others."""
    owners: list[frozenset[int]] = []
    results: dict[str, mx.array] = {}
    parameters = [(frozenset({layer}), array) for layer, array in _layer_parameters(model)]
    parameters += [(readers[path], array) for path, array in outer_parameters(model).items()]
    for number, (owner, array) in enumerate(parameters):
        owners.append(owner)
        results[f"p{number}"] = mx.stop_gradient(array)
    named = {f"g{number}": root for number, root in enumerate(roots.values())}
    found: dict[str, set[int]] = {name: set() for name in named}
    for owner, sources in zip(owners, dependencies(results, named).values(), strict=True):
        for source in sources:
            found[source] |= owner
    return {group: frozenset(found[name]) for group, name in zip(roots, named, strict=True)}


def _layer_parameters(model: Any) -> Iterable[tuple[int, mx.array]]:
    for index, layer in enumerate(model.layers):
        for _, array in tree_flatten(layer.parameters()):
            yield index, array


def _name(needs: tuple[int, ...], layer_count: int, shared: int) -> str:
    """A file name that mlx-lm takes for weights. What only layer 0 reads, an embedding say, lies with layer 0."""
    if len(needs) > 1:
        return f"model-shared-{shared}.safetensors"
    return "model-output.safetensors" if needs[0] == layer_count else f"model-layer-{needs[0]:05}.safetensors"
