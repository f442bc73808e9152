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
    output_bytes: int
    rows: int


def outer_weights(model: Any, readers: Mapping[str, frozenset[int]]) -> OuterWeights:
    """Sort the parameters that no layer owns by who reads them; those that nobody reads are never loaded.

    Read by the first layer alone: the first stage. By the logits alone: the last. An embedding read by both alone is
    tied. What anything else reads is counted on every stage.
    """
    end = len(model.layers)
    sizes = {path: array.nbytes for path, array in outer_parameters(model).items()}
    embeddings = _matrices(model, (nn.Embedding, nn.QuantizedEmbedding))
    linears = _matrices(model, (nn.Linear, nn.QuantizedLinear))
    seen = _without_blind_spots(readers, embeddings)

    def total(wanted: frozenset[int], owners: Mapping[str, Any] | None = None) -> int:
        chosen = (path for path in sizes if seen[path] == wanted)
        return sum(sizes[path] for path in chosen if owners is None or path.rpartition(".")[0] in owners)

    first, last, both = frozenset({0}), frozenset({end}), frozenset({0, end})
    tied = total(both, embeddings)
    embedding, head = total(first, embeddings), total(last, linears)
    read = sum(size for path, size in sizes.items() if seen[path])
    return OuterWeights(
        embedding_bytes=tied or embedding,
        head_bytes=0 if tied else head,
        tied=bool(tied),
        other_first_bytes=total(first) - (0 if tied else embedding),
        other_last_bytes=total(last) - (0 if tied else head),
        other_every_bytes=read - total(first) - total(last) - tied,
        output_bytes=sum(size for path, size in sizes.items() if end in seen[path]),
        rows=max((module.weight.shape[0] for module in embeddings.values()), default=1),
    )


def _matrices(model: Any, kinds: tuple[type, ...]) -> dict[str, Any]:
    return {path: module for path, module in model.named_modules() if isinstance(module, kinds)}


def _without_blind_spots(
    readers: Mapping[str, frozenset[int]], embeddings: Mapping[str, Any]
) -> Mapping[str, frozenset[int]]:
    """A model that looks at values on its way (dbrx) hides what it read before: then its embedding seems unread."""
    if any(path.rpartition(".")[0] in embeddings and found for path, found in readers.items()):
        return readers
    return {
        path: found or frozenset({0} if path.rpartition(".")[0] in embeddings else ())
        for path, found in readers.items()
    }
