"""Figures say what was measured on either side, and whether it is what is wanted."""

from __future__ import annotations

import asyncio

import pytest

from mlxctl.bench_engine.figure import in_turn, plain, ratio

pytestmark = pytest.mark.unit

SIDES = ("ours", "theirs")


def test_a_ratio_keeps_both_sides_of_every_round() -> None:
    figure = ratio("server", "ours / theirs", SIDES, "tok/s", [(3.0, 2.0), (4.0, 2.0), (5.0, 2.0)])
    assert [(each.value, each.ours, each.theirs) for each in figure.rounds] == [
        (1.5, 3.0, 2.0),
        (2.0, 4.0, 2.0),
        (2.5, 5.0, 2.0),
    ]
    assert figure.summary.median == 2.0
    assert figure.side_medians == (4.0, 2.0)


def test_three_rounds_have_an_interval_and_two_have_none() -> None:
    pairs = [(3.0, 2.0), (4.0, 2.0), (5.0, 2.0)]
    assert ratio("server", "a", SIDES, "s", pairs).summary.interval is not None
    assert ratio("server", "a", SIDES, "s", pairs[:2]).summary.interval is None


@pytest.mark.parametrize(
    ("value", "better", "reached"), [(1.0, "higher", True), (0.9, "higher", False), (1.1, "lower", False)]
)
def test_what_is_wanted_has_a_direction(value: float, better: str, reached: bool) -> None:
    figure = plain("wire", "a", "ours", "µs", [value], wanted=1.0, better=better)  # type: ignore[arg-type]
    assert figure.is_reached is reached


def test_where_nothing_is_wanted_nothing_is_reached() -> None:
    assert plain("wire", "a", "ours", "µs", [1.0]).is_reached is None


def test_sides_take_turns_in_going_first() -> None:
    went: list[str] = []

    async def side(name: str, number: int) -> str:
        went.append(f"{name}{number}")
        return name

    found = asyncio.run(in_turn(3, lambda number: side("a", number), lambda number: side("b", number)))
    assert went == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert found == [("a", "b")] * 3
