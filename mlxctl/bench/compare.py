"""Two reports side by side: what changed, how sure that is, what could have been seen. Pure; for bench compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mlxctl.bench.columns import Better, Columns, Key, Series
from mlxctl.bench.evidence import SIGNIFICANCE, detectable_effect, holm, least_p, p_value
from mlxctl.bench.records import Record
from mlxctl.bench.statistics import Interval, ratio_interval
from mlxctl.errors import UsageError

Verdict = Literal["improved", "regressed", "no evidence", "not compared"]
LEAST_RUNS = 3


class Row(Record):
    """One metric of one workload in A and B. `change` is B / A - 1, `interval` its 95 % interval; `p` is corrected for
    all rows (Holm), `least_p` the smallest that so many runs can give. `detectable` is the smallest change that runs as
    many and as noisy would find 4 times out of 5, not counting the correction.
    """

    devices: int
    workload: str
    metric: str
    unit: str
    better: Better
    a: float | None
    b: float | None
    change: float | None = None
    interval: Interval | None = None
    p_raw: float | None = None
    p: float | None = None
    least_p: float = 1.0
    detectable: float | None = None
    verdict: Verdict
    reason: str | None = None


class Comparison(Record):
    """`differences` say why nothing of A and B may be compared, fact by fact; empty if they may. `notes` say what else
    may have made a difference.
    """

    schema_: Annotated[Literal["mlxctl.bench-compare/1"], Field(alias="schema")] = "mlxctl.bench-compare/1"
    a: str
    b: str
    differences: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """What is not allowed to get worse: `metric` (of `workload` if given) by `change` or more, with evidence."""

    metric: str
    change: float
    workload: str | None = None

    def is_broken_by(self, row: Row) -> bool:
        """Whether `row` is of this metric and got worse by so much, and not by chance."""
        if not self.concerns(row) or row.verdict != "regressed" or row.change is None:
            return False
        return row.change <= self.change if self.change < 0 else row.change >= self.change

    def concerns(self, row: Row) -> bool:
        """Whether the limit is about this row."""
        return row.metric == self.metric and self.workload in (None, row.workload)


def parse_limit(text: str) -> Limit:
    """`tg_tps:-3%`, or `tg64@1024/tg_tps:-3%`. Raises UsageError."""
    name, colon, amount = text.rpartition(":")
    workload, slash, metric = name.rpartition("/")
    try:
        change = float(amount.removesuffix("%")) / 100
    except ValueError:
        change = 0.0
    if not colon or not metric or not amount.endswith("%") or not change:
        raise UsageError(f"--fail {text!r} is no limit", hint="such as --fail 'tg_tps:-3%' or 'ttft_s:+5%'")
    return Limit(metric, change, workload if slash else None)


def compare(a: Columns, b: Columns, across: Sequence[str] = (), metrics: Sequence[str] = ()) -> Comparison:
    """Row by row, of `metrics` only if any are named. Facts named in `across` may differ: then that is compared."""
    differences = tuple(_differences(a, b, across))
    notes = tuple(f"{letter}: {note}" for letter, side in (("A", a), ("B", b)) for note in side.notes)
    keys = [*a.series, *(key for key in b.series if key not in a.series)]
    chosen = [key for key in keys if not metrics or key[2] in metrics]
    rows = [_row(key, a.series.get(key), b.series.get(key), bool(differences)) for key in chosen]
    return Comparison(a=a.name, b=b.name, differences=differences, notes=notes, rows=tuple(_judged(rows)))


def _differences(a: Columns, b: Columns, across: Sequence[str]) -> list[str]:
    return [
        f"{fact} differs: {a.facts[fact] or 'unknown'} and {b.facts.get(fact) or 'unknown'}"
        for fact in a.facts
        if a.facts[fact] != b.facts.get(fact) and fact not in across
    ]


def _row(key: Key, a: Series | None, b: Series | None, incomparable: bool) -> Row:
    devices, workload, metric = key
    one = a or b
    assert one is not None
    plain = Row(
        devices=devices,
        workload=workload,
        metric=metric,
        unit=one.unit,
        better=one.better,
        a=a.mean if a else None,
        b=b.mean if b else None,
        verdict="not compared",
    )
    if a is None or b is None:
        return plain.model_copy(update={"reason": f"only in {'A' if a else 'B'}"})
    if incomparable:
        return plain.model_copy(update={"reason": "A and B are not comparable"})
    if a.shape != b.shape:
        return plain.model_copy(update={"reason": "the workloads differ (lengths, depth, streams)"})
    if min(len(a.values), len(b.values)) < LEAST_RUNS:
        return plain.model_copy(update={"reason": f"fewer than {LEAST_RUNS} runs"})
    return _compared(plain, a, b)


def _compared(plain: Row, a: Series, b: Series) -> Row:
    first, second = np.array(a.values), np.array(b.values)
    ratio = ratio_interval(second, first, b.launches, a.launches)
    effect = detectable_effect(first, second, a.launches, b.launches)
    return plain.model_copy(
        update={
            "change": b.mean / a.mean - 1,
            "interval": Interval(ratio.low - 1, ratio.high - 1, ratio.method) if ratio else None,
            "least_p": least_p(len(first), len(second)),
            "p_raw": p_value(first, second, a.launches, b.launches),
            "detectable": effect / abs(a.mean) if effect is not None else None,
            "verdict": "no evidence",
        }
    )


def _judged(rows: Sequence[Row]) -> list[Row]:
    """With Holm's correction over all rows that were compared."""
    places = [index for index, row in enumerate(rows) if row.p_raw is not None]
    corrected = dict(zip(places, holm([rows[index].p_raw or 0.0 for index in places]), strict=True))
    return [
        _verdict(row, corrected[index], len(places)) if index in corrected else row for index, row in enumerate(rows)
    ]


def _verdict(row: Row, p: float, rows: int) -> Row:
    if p > SIGNIFICANCE or not row.change:
        reason = "too few runs for so many rows" if rows * row.least_p > SIGNIFICANCE else None
        return row.model_copy(update={"p": p, "reason": reason})
    better = (row.change > 0) == (row.better == "higher")
    return row.model_copy(update={"p": p, "verdict": "improved" if better else "regressed"})
