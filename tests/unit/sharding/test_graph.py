"""What lazy arrays hang on."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxctl.sharding.graph import MAX_NAMES, dependencies

pytestmark = pytest.mark.unit


def test_a_result_hangs_on_what_it_was_computed_from() -> None:
    a, b, c = mx.zeros((2,)), mx.zeros((2,)), mx.zeros((2,))
    found = dependencies({"r0": (a + 1) * b, "r1": mx.exp(c), "r2": mx.ones((1,))}, {"pa": a, "pb": b, "pc": c})
    assert found == {"r0": {"pa", "pb"}, "r1": {"pc"}, "r2": set()}


def test_calls_of_one_compiled_function_are_told_apart() -> None:
    double = mx.compile(lambda x: (x + x) * x)
    a, b = mx.zeros((2,)), mx.zeros((2,))
    assert dependencies({"r0": double(a), "r1": double(b)}, {"pa": a, "pb": b}) == {"r0": {"pa"}, "r1": {"pb"}}


def test_every_part_of_a_split_hangs_on_the_whole() -> None:
    a = mx.zeros((4,))
    first, second = mx.split(a * 2, 2)
    assert dependencies({"r0": first, "r1": second}, {"pa": a}) == {"r0": {"pa"}, "r1": {"pa"}}


def test_there_may_be_more_arrays_than_mlx_takes_names_in_one_call() -> None:
    count = MAX_NAMES + 100
    sources = {f"p{index}": mx.zeros((1,)) for index in range(count)}
    results = {f"r{index}": source + 1 for index, source in enumerate(sources.values())}
    results["rall"] = sum(sources.values(), mx.zeros((1,)))
    found = dependencies(results, sources)
    assert found["rall"] == sources.keys()
    assert all(found[f"r{index}"] == {f"p{index}"} for index in range(count))


def test_nothing_is_evaluated() -> None:
    a = mx.zeros((1 << 20,))
    before = mx.get_active_memory()
    dependencies({"r0": mx.exp(a)}, {"pa": a})
    assert mx.get_active_memory() == before
