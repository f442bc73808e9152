"""One pass, watched: what layers take out of a dict they share, and what they replace."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

import mlx.core as mx
import pytest

from mlxctl.sharding.trace import trace
from tests.toy_models import Layer, Toy

pytestmark = pytest.mark.unit

Access = Callable[[MutableMapping[str, Any]], object]


class Accessing(Layer):
    """A layer that does `access` to the dict it shares."""

    access: Access

    def __call__(self, h: Any, cache: Any = None, extra: Any = None, shared: Any = None) -> Any:
        h = super().__call__(h, cache)
        shared["own"] = h
        self.access(shared)
        return h


def accesses(access: Access) -> tuple[frozenset[str], frozenset[str]]:
    """Keys taken and replaced by the second of two layers, of a dict that holds `own` and `old` before it."""

    class Model(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [Accessing(), Accessing()]
            self.layers[0].access = lambda _: None
            self.layers[1].access = access

        def run(self, h: Any, cache: list[Any]) -> Any:
            shared = {"old": mx.zeros((1, 1, 4))}
            for layer, slot in zip(self.layers, cache, strict=True):
                h = layer(h, slot, shared=shared)
            return h

    (step,) = trace(Model(), (2,)).steps
    call = step.calls[1]
    keys = [frozenset(path.removeprefix("/1/0/") for path in paths) for paths in (call.taken, call.replaced)]
    return keys[0], keys[1]


@pytest.mark.parametrize(
    ("access", "taken", "replaced"),
    [
        (lambda _: None, set(), {"own"}),
        (lambda shared: shared["old"], {"old"}, {"own"}),
        (lambda shared: shared.get("old"), {"old"}, {"own"}),
        (lambda shared: shared.get("none"), {"none"}, {"own"}),
        (lambda shared: "old" in shared, {"old"}, {"own"}),
        (lambda shared: shared.pop("old"), {"old"}, {"own"}),
        (lambda shared: list(shared), {"old"}, {"own"}),
        (lambda shared: list(shared.items()), {"old"}, {"own"}),
        (lambda shared: list(shared.values()), {"old"}, {"own"}),
        (lambda shared: {**shared}, {"old"}, {"own"}),
        (lambda shared: dict(shared), {"old"}, {"own"}),
        (lambda shared: shared.update(old=mx.ones((1,))), set(), {"own", "old"}),
        (lambda shared: shared.update({"new": shared["own"]}), set(), {"own", "new"}),
        (lambda shared: shared["own"], set(), {"own"}),
        (lambda shared: shared.setdefault("old", 1), {"old"}, {"own"}),
        (lambda shared: list(shared.keys()), {"old"}, {"own"}),
        (lambda shared: shared.popitem(), {"old"}, {"own"}),
    ],
)
def test_what_a_layer_takes_out_of_a_shared_dict_is_told_from_what_it_replaces(
    access: Access, taken: set[str], replaced: set[str]
) -> None:
    assert accesses(access) == (frozenset(taken), frozenset(replaced))


def test_models_whose_layers_share_dicts_are_watched_over_a_long_context_too() -> None:
    class Model(Toy):
        def run(self, h: Any, cache: list[Any]) -> Any:
            shared: dict[str, Any] = {}
            for layer, slot in zip(self.layers, cache, strict=True):
                h = layer(h, slot, shared=shared)
            return h

        def __init__(self) -> None:
            super().__init__()
            self.layers = [Accessing() for _ in range(4)]
            for layer in self.layers:
                layer.access = lambda _: None

    assert [step.calls[0].output.value.shape for step in trace(Model(), (2,)).long_steps] == [(1, 256, 4)] * 2
    assert trace(Toy(), (2,)).long_steps == ()
