"""What lazy arrays hang on."""

from __future__ import annotations

from functools import partial
from typing import Any

import mlx.core as mx
import pytest

from mlxctl.sharding.graph import dependencies

pytestmark = pytest.mark.unit


def test_a_result_hangs_on_what_it_is_computed_from_and_nothing_else() -> None:
    a, b, c = mx.ones((2,)), mx.ones((2,)), mx.ones((2,))
    found = dependencies({"r": (a + b) * 2, "s": c - 1}, {"a": a, "b": b, "c": c})
    assert found == {"r": {"a", "b"}, "s": {"c"}}


def test_what_lies_behind_a_source_is_seen_too() -> None:
    a = mx.ones((2,))
    b = a + 1
    assert dependencies({"r": b * 2}, {"a": a, "b": b}) == {"r": {"a", "b"}}


def test_results_of_one_compiled_function_are_kept_apart() -> None:
    @partial(mx.compile, shapeless=True)
    def scaled(x: Any, y: Any) -> Any:
        return mx.sigmoid(x) * y + x

    a, b, c, d = (mx.ones((2,)) for _ in range(4))
    found = dependencies({"r": scaled(a, b) * 1, "s": scaled(c, d) * 1}, {"a": a, "b": b, "c": c, "d": d})
    assert found == {"r": {"a", "b"}, "s": {"c", "d"}}


def test_a_function_with_several_results_gives_its_sources_to_each() -> None:
    a, b = mx.ones((4,)), mx.ones((4,))
    first, second = mx.split(a + b, 2)
    assert dependencies({"r": first * 1, "s": second * 1}, {"a": a, "b": b}) == {"r": {"a", "b"}, "s": {"a", "b"}}


def test_nothing_is_evaluated() -> None:
    before = mx.get_active_memory()
    huge = mx.zeros((1 << 20, 1 << 20))
    assert dependencies({"r": huge + 1}, {"a": huge}) == {"r": {"a"}}
    assert mx.get_active_memory() - before < 1 << 20
