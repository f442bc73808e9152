"""Models of four layers without attention, each calling its layers in a way that matters to cuts."""

from __future__ import annotations

from typing import Any

import mlx.nn as nn
from mlx_lm.models.cache import KVCache


class Layer(nn.Module):  # type: ignore[misc]
    """A layer without attention: h + wh, and whatever `extra` brings along."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def __call__(self, h: Any, cache: Any = None, extra: Any = None) -> Any:
        if cache is not None:
            rows = h[:, None]
            h = h + cache.update_and_fetch(rows, rows)[0][:, 0, -h.shape[1] :]
        h = h + self.linear(h)
        return h if extra is None else h + extra


class Toy(nn.Module):  # type: ignore[misc]
    """Four layers, one cache slot each; subclasses say how the layers are called."""

    layers: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 4)
        self.layers = [Layer() for _ in range(4)]

    def make_cache(self) -> list[Any]:
        return [KVCache() for _ in self.layers]

    def __call__(self, tokens: Any, cache: list[Any]) -> Any:
        return self.run(self.embedding(tokens), cache)

    def run(self, h: Any, cache: list[Any]) -> Any:
        for layer, slot in zip(self.layers, cache, strict=True):
            h = layer(h, slot)
        return h


class Shared(Toy):
    """The last layer uses the cache of layer 1."""

    def run(self, h: Any, cache: list[Any]) -> Any:
        for layer, slot in zip(self.layers, [0, 1, 2, 1], strict=True):
            h = layer(h, cache[slot])
        return h


class Skipping(Toy):
    """The last layer reads twice what layer 1 returned."""

    def run(self, h: Any, cache: list[Any]) -> Any:
        outputs: list[Any] = []
        for index, layer in enumerate(self.layers):
            h = layer(h, cache[index], 2 * outputs[1] if index == 3 else None)
            outputs.append(h)
        return h


class SkippingToTheEnd(Toy):
    """The output reads what layer 2 returned."""

    def run(self, h: Any, cache: list[Any]) -> Any:
        outputs: list[Any] = []
        for layer, slot in zip(self.layers, cache, strict=True):
            h = layer(h, slot)
            outputs.append(h)
        return h + outputs[2]


class Peeking(Toy):
    """Layers from 2 on read the rows in the cache of layer 1, without being given that cache."""

    def run(self, h: Any, cache: list[Any]) -> Any:
        for index, layer in enumerate(self.layers):
            rows = cache[1].keys_and_values()[0][:, 0, -h.shape[1] :] if index >= 2 else None
            h = layer(h, cache[index], rows)
        return h


class SharingLayer(Layer):
    """One layer of Sharing."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def __call__(self, h: Any, cache: Any = None, extra: Any = None, shared: Any = None) -> Any:
        h = super().__call__(h, cache)
        shared["last"] = h * 2
        if self.index == 0:
            shared["first"] = h * 3
        if self.index == 1:
            shared["rows"] = cache.keys_and_values()[0][:, 0]
        if self.index == 2:
            h = h + shared["rows"][:, -h.shape[1] :]
        return h + shared.get("first")


class Sharing(Toy):
    """Layers leave results to later ones in a dict: layer 0 to all, layer 1 its rows to layer 2, each one to none."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [SharingLayer(index) for index in range(4)]

    def run(self, h: Any, cache: list[Any]) -> Any:
        shared: dict[str, Any] = {}
        for layer, slot in zip(self.layers, cache, strict=True):
            h = layer(h, slot, shared=shared)
        return h


class CarryingLayer(Layer):
    def __call__(self, h: Any, cache: Any = None, extra: Any = None) -> Any:
        return super().__call__(h, cache, extra), cache.keys_and_values()


class Carrying(Toy):
    """Layers return the rows of their cache along with the hidden state; nobody reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [CarryingLayer() for _ in range(4)]

    def run(self, h: Any, cache: list[Any]) -> Any:
        for layer, slot in zip(self.layers, cache, strict=True):
            h, _ = layer(h, slot)
        return h


class Handing(Carrying):
    """The same, but each layer is handed what the one before returned."""

    def run(self, h: Any, cache: list[Any]) -> Any:
        rows = None
        for layer, slot in zip(self.layers, cache, strict=True):
            h, rows = layer(h, slot, rows and rows[0][:, 0, -h.shape[1] :])
        return h


class Backwards(Toy):
    def run(self, h: Any, cache: list[Any]) -> Any:
        for layer, slot in zip(reversed(self.layers), cache, strict=True):
            h = layer(h, slot)
        return h


class Twice(Toy):
    def run(self, h: Any, cache: list[Any]) -> Any:
        for layer, slot in zip(self.layers * 2, cache * 2, strict=True):
            h = layer(h, slot)
        return h
