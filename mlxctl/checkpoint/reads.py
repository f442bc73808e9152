"""Which weights outside the layers each layer and the logits hang on, and which experts a token takes. For model_facts.

One token goes through the unevaluated model. Every layer's result is replaced by a placeholder, so that the graph falls
apart into one piece a layer and one for the logits; the weights found in a piece are those it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from mlxctl.sharding.graph import dependencies
from mlxctl.sharding.pytree import arrays_in, map_arrays
from mlxctl.sharding.swap import restore, swap


@dataclass(frozen=True, slots=True)
class Reads:
    """`readers` gives for each weight outside the layers, by path, the pieces that read it: a layer's index, or the
    layer count for the logits. `experts_per_token` is by layer.
    """

    readers: Mapping[str, frozenset[int]]
    experts_per_token: Mapping[int, int]


def outer_parameters(model: Any) -> dict[str, mx.array]:
    """Parameters of `model` that belong to no decoder layer, by path."""
    inside = {id(array) for layer in model.layers for _, array in tree_flatten(layer.parameters())}
    return {path: array for path, array in tree_flatten(model.parameters()) if id(array) not in inside}


def switches_in(layer: Any) -> list[Any]:
    """The stacked expert matrices of a layer."""
    return [module for module in layer.modules() if isinstance(module, SwitchLinear | QuantizedSwitchLinear)]


def reads(model: Any) -> Reads:
    """Watch one token pass through `model`. Its layers must be called in order; nothing is evaluated."""
    watch = _Watch()
    layers = list(model.layers)
    swapped = []
    for index, layer in enumerate(layers):
        for switch in switches_in(layer):
            swap(switch, partial(watch.switch, index))
            swapped.append(switch)
        swap(layer, partial(watch.layer, index))
        swapped.append(layer)
    try:
        logits = model(mx.zeros((1, 1), mx.int32), cache=make_prompt_cache(model))
    finally:
        for module in reversed(swapped):
            restore(module)
    watch.keep(len(layers), [logits])
    return Reads(watch.readers(outer_parameters(model)), watch.experts_per_token)


class _Watch:
    """Keeps what every piece returned, and how many experts each layer was asked for."""

    def __init__(self) -> None:
        self.experts_per_token: dict[int, int] = {}
        self._results: dict[str, mx.array] = {}
        self._owners: dict[str, int] = {}

    def layer(self, index: int, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = forward(*args, **kwargs)
        self.keep(index, arrays_in(output).values())
        return map_arrays(lambda _path, array: mx.zeros(array.shape, array.dtype), output)

    def switch(self, index: int, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        indices = args[1] if len(args) > 1 else kwargs["indices"]
        self.experts_per_token[index] = int(indices.size)
        return forward(*args, **kwargs)

    def keep(self, owner: int, arrays: Any) -> None:
        for array in arrays:
            name = f"r{len(self._results)}"
            self._results[name] = mx.stop_gradient(array)
            self._owners[name] = owner

    def readers(self, weights: Mapping[str, mx.array]) -> dict[str, frozenset[int]]:
        """The pieces that hang on each of `weights`."""
        named = {f"w{number}": array for number, array in enumerate(weights.values())}
        found: dict[str, set[int]] = {name: set() for name in named}
        for result, sources in dependencies(self._results, named).items():
            for name in sources:
                found[name].add(self._owners[result])
        return {path: frozenset(found[name]) for path, name in zip(weights, named, strict=True)}
