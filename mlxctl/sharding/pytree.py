"""The arrays inside whatever a decoder layer returns, by path. Called by the trace, Shard and the boundary codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlxctl.sharding.caches import is_cache


def is_carrier(node: Any) -> bool:
    """An object of a model's own class that carries arrays from layer to layer (not a module, not a cache)."""
    return (
        type(node).__module__.startswith("mlx_lm.models.")
        and hasattr(node, "__dict__")
        and not isinstance(node, nn.Module)
        and not is_cache(node)
        and not isinstance(node, type)
    )


def map_leaves(function: Callable[[str, Any], Any], tree: Any, path: str = "") -> Any:
    """A new tree with every leaf replaced by `function(path, leaf)`; containers and carriers are copied."""
    if type(tree) in (tuple, list):
        return type(tree)(map_leaves(function, item, f"{path}/{index}") for index, item in enumerate(tree))
    if type(tree) is dict:
        return {key: map_leaves(function, item, f"{path}/{key}") for key, item in tree.items()}
    if is_carrier(tree):
        copy = object.__new__(type(tree))
        copy.__dict__.update(map_leaves(function, vars(tree), path))
        return copy
    return function(path, tree)


def map_arrays(function: Callable[[str, mx.array], Any], tree: Any) -> Any:
    """Like `map_leaves`, for arrays alone; other leaves stay."""
    return map_leaves(lambda path, leaf: function(path, leaf) if isinstance(leaf, mx.array) else leaf, tree)


def arrays_in(tree: Any) -> dict[str, mx.array]:
    """Every array of `tree` by its path."""
    found: dict[str, mx.array] = {}
    map_arrays(found.setdefault, tree)
    return found


def dicts_in(args: Sequence[Any]) -> list[dict[str, Any]]:
    """The plain dicts among a layer's arguments: state that layers share by mutating it."""
    return [value for value in args if type(value) is dict]
