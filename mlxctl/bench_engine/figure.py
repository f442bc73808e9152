"""A figure from rounds in which its two sides took turns. Called by figures, over_http and wire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from mlxctl.bench.report import EngineFigure, EngineRound
from mlxctl.bench.statistics import summarise

RATIO = "ratio"

T = TypeVar("T")
U = TypeVar("U")


async def in_turn(
    rounds: int, ours: Callable[[int], Awaitable[T]], theirs: Callable[[int], Awaitable[U]]
) -> list[tuple[T, U]]:
    """Both sides of every round, which is given its number; who goes first changes from round to round."""
    found = []
    for number in range(rounds):
        if number % 2:
            other = await theirs(number)
            found.append((await ours(number), other))
        else:
            mine = await ours(number)
            found.append((mine, await theirs(number)))
    return found


def ratio(
    group: str,
    name: str,
    sides: tuple[str, str],
    side_unit: str,
    pairs: Sequence[tuple[float, float]],
    *,
    wanted: float | None = None,
    better: Literal["higher", "lower"] = "higher",
    note: str = "",
) -> EngineFigure:
    """`pairs` are the first of `sides` and the second, of every round; the figure is one divided by the other."""
    rounds = tuple(EngineRound(value=ours / theirs, ours=ours, theirs=theirs) for ours, theirs in pairs)
    return _figure(group, name, RATIO, better, wanted, sides, side_unit, rounds, note)


def plain(
    group: str,
    name: str,
    side: str,
    unit: str,
    values: Sequence[float],
    *,
    wanted: float | None = None,
    better: Literal["higher", "lower"] = "higher",
    note: str = "",
) -> EngineFigure:
    """A figure that is no ratio: one value in `unit` for each round."""
    rounds = tuple(EngineRound(value=value, ours=value) for value in values)
    return _figure(group, name, unit, better, wanted, (side,), unit, rounds, note)


def _figure(
    group: str,
    name: str,
    unit: str,
    better: Literal["higher", "lower"],
    wanted: float | None,
    sides: tuple[str, ...],
    side_unit: str,
    rounds: tuple[EngineRound, ...],
    note: str,
) -> EngineFigure:
    return EngineFigure(
        group=group,
        name=name,
        unit=unit,
        better=better,
        wanted=wanted,
        sides=sides,
        side_unit=side_unit,
        rounds=rounds,
        summary=summarise([each.value for each in rounds]),
        note=note,
    )
