"""Where models may be cut and what crosses: found by one pass that evaluates nothing."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from mlxctl.errors import CorruptFrame, IllegalCut
from mlxctl.sharding.boundary import Blank, Boundary
from mlxctl.sharding.layer_map import LayerMap
from tests.tiny_models import CONFIGS, LAYERS, random_model
from tests.toy_models import (
    Backwards,
    Carrying,
    Handing,
    Layer,
    Peeking,
    Shared,
    Sharing,
    Skipping,
    SkippingToTheEnd,
    Toy,
    Twice,
)

pytestmark = pytest.mark.unit


def test_a_plain_stack_of_layers_may_be_cut_anywhere() -> None:
    layers = LayerMap.of(Toy())
    assert layers.legal_cuts == (1, 2, 3)
    assert layers.slots == ((0,), (1,), (2,), (3,))
    assert layers.own_slots(1, 3) == (1, 2)


@pytest.mark.parametrize(
    ("model", "legal", "why"),
    [
        (Shared, (1,), "layer 3 shares the KV cache of layer 1"),
        (Skipping, (1,), "layer 3 reads a result of layer 1"),
        (SkippingToTheEnd, (1, 2), "the output reads a result of layer 2"),
        (Peeking, (1,), "reads the KV cache of layer 1"),
        (Handing, (), "what layer 2 leaves to later layers grows with the context"),
        (Backwards, (), "once each, in order"),
        (Twice, (), "once each, in order"),
    ],
)
def test_a_cut_through_what_layers_share_is_illegal_and_says_why(
    model: type[Toy], legal: tuple[int, ...], why: str
) -> None:
    layers = LayerMap.of(model())
    assert layers.legal_cuts == legal
    assert why in layers.illegal_cuts[3]


def test_what_nobody_after_a_cut_reads_does_not_cross_it() -> None:
    layers = LayerMap.of(Carrying())
    assert layers.legal_cuts == (1, 2, 3)
    assert layers.crossings[2].unread == {"/0/1/0", "/0/1/1"}


def test_a_dict_that_layers_share_crosses_but_for_what_is_replaced_before_it_is_read() -> None:
    layers = LayerMap.of(Sharing())
    assert layers.crossings[1].unread == {"/1/0/last"}
    assert layers.crossings[3].unread == {"/1/0/last", "/1/0/rows"}


def test_a_cut_that_a_whole_context_would_cross_is_illegal() -> None:
    layers = LayerMap.of(Sharing())
    assert dict(layers.illegal_cuts) == {2: "what layer 1 leaves to later layers grows with the context"}


def test_asking_for_an_illegal_cut_names_the_nearest_legal_ones() -> None:
    with pytest.raises(IllegalCut, match="cannot cut before layer 2: layer 3 reads") as raised:
        LayerMap.of(Skipping()).check_stage(2, 4)
    assert raised.value.hint == "cut before layer 1 instead"
    with pytest.raises(IllegalCut) as raised:
        LayerMap.of(Twice()).check_stage(0, 2)
    assert raised.value.hint == "this model must stay in one piece"


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (-1, 2), (2, 2), (3, 1), (4, 5)])
def test_a_range_that_is_no_range_of_layers_is_an_illegal_cut(start: int, stop: int) -> None:
    with pytest.raises(IllegalCut, match="4 layers"):
        LayerMap.of(Toy()).check_stage(start, stop)


def test_the_trace_evaluates_nothing_and_leaves_the_layers_as_they_were() -> None:
    model = Toy()
    before = mx.get_active_memory()
    LayerMap.of(model)
    assert mx.get_active_memory() - before < 10_000
    assert all(type(layer) is Layer for layer in model.layers)


def test_a_trace_that_fails_leaves_the_layers_as_they_were() -> None:
    class Failing(Toy):
        def run(self, h: Any, cache: list[Any]) -> Any:
            raise RuntimeError("no")

    model = Failing()
    with pytest.raises(RuntimeError):
        LayerMap.of(model)
    assert all(type(layer) is Layer for layer in model.layers)


def test_windowed_and_full_caches_of_a_model_are_told_apart() -> None:
    layers = LayerMap.of(random_model({"model_type": "gemma3_text", **CONFIGS["gemma3_text"]}))
    assert layers.legal_cuts == tuple(range(1, LAYERS))
    assert layers.slot_kinds[:3] == ("RotatingKVCache(max_size=8, keep=0)",) * 2 + ("KVCache",)


def test_what_crosses_a_cut_is_known_before_anything_runs() -> None:
    crossing = LayerMap.of(random_model({"model_type": "llama", **CONFIGS["llama"]})).crossings[3]
    assert [template.value for template in crossing.templates] == [
        Blank("float32", (1, 2, 64)),
        Blank("float32", (1, 1, 64)),
    ]
    assert crossing.unread == frozenset()


@pytest.mark.parametrize(
    ("array", "fits"),
    [
        (mx.zeros((2, 5, 4)), True),
        (mx.zeros((1, 5, 4)), True),
        (mx.zeros((3, 5, 4)), False),
        (mx.zeros((2, 4, 4)), False),
        (mx.zeros((2, 5, 5)), False),
        (mx.zeros((5, 4)), False),
        (mx.zeros((2, 5, 4), mx.float16), False),
        (None, False),
    ],
)
def test_an_activation_must_have_the_shape_of_its_tokens(array: Any, fits: bool) -> None:
    crossing = LayerMap.of(Toy()).crossings[2]
    if fits:
        crossing.check(Boundary(array), rows=2, columns=5)
    else:
        with pytest.raises(CorruptFrame, match="activation"):
            crossing.check(Boundary(array), rows=2, columns=5)
