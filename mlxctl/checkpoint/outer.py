"""Weights outside the layers, sorted by the stages that need them. Called by model_facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.nn as nn

from mlxctl.checkpoint.reads import outer_parameters


@dataclass(frozen=True, slots=True)
class OuterWeights:
    """Bytes by need: see ModelFacts. `rows` is the size of the vocabulary that the embedding has."""

    embedding_bytes: int
    head_bytes: int
    tied: bool
    other_first_bytes: int
    other_last_bytes: int
    other_every_bytes: int
    rows: int


def outer_weights(model: Any, readers: Mapping[str, frozenset[int]]) -> OuterWeights:
    """Sort the parameters that no layer owns by who reads them; those that nobody reads are never loaded.

    Read by the first layer alone: the first stage. By the logits alone: the last. By both alone: a tied embedding. By
    anything in between: counted on every stage.
    """
    end = len(model.layers)
    sizes = {path: array.nbytes for path, array in outer_parameters(model).items()}
    matrices = [(path, module) for path, module in model.named_modules() if "weight" in module]
    embeddings = {path for path, module in matrices if isinstance(module, nn.Embedding | nn.QuantizedEmbedding)}
    linears = {path for path, module in matrices if isinstance(module, nn.Linear | nn.QuantizedLinear)}
    both = frozenset({0, end})

    def total(wanted: frozenset[int], owners: set[str] | None = None) -> int:
        return sum(
            size
            for path, size in sizes.items()
            if readers[path] == wanted and (owners is None or path.rpartition(".")[0] in owners)
        )

    first, last, tied = total(frozenset({0})), total(frozenset({end})), total(both)
    embedding = total(frozenset({0}), embeddings)
    head = total(frozenset({end}), linears)
    between = sum(size for path, size in sizes.items() if readers[path] - both)
    rows = max((module.weight.shape[0] for path, module in matrices if path in embeddings), default=1)
    if tied:
        return OuterWeights(tied, 0, True, first, last, between, rows)
    return OuterWeights(embedding, head, False, first - embedding, last - head, between, rows)
