"""Whether more devices say the same: greedy answers that ran alone, prompt by prompt. Pure; called by build."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlxctl.bench.margins import common_characters
from mlxctl.bench.records import Answer, Margin, Run, Workload
from mlxctl.bench.report import Divergence, Equality

SHOWN_CHARACTERS = 40
Key = tuple[str, int, int]


def compare_texts(
    runs: Sequence[Run], workloads: Sequence[Workload], dtype: str | None, margins: Sequence[Margin] = ()
) -> Equality:
    """Every answer against the first one to the same prompt on the fewest devices. Warm-ups count: they answer too.

    In float32 all must be equal; in other types batch shapes may turn a tie, and what differs is shown. An answer
    that a failure cut short is not compared; of two lengths the shorter is compared.
    """
    alone = {workload.id for workload in workloads if workload.is_alone}
    first: dict[Key, tuple[int, Answer]] = {}
    compared, found = 0, list[Divergence]()
    for run, key, answer in sorted(_answers(runs, alone), key=lambda each: each[0].devices):
        if key not in first:
            first[key] = (run.devices, answer)
            continue
        compared += 1
        baseline, expected = first[key]
        if answer.text_sha256 != expected.text_sha256:
            found.append(_divergence(key, run.devices, baseline, answer, expected, margins))
    return Equality(
        dtype=dtype,
        exact_expected=dtype == "float32",
        compared=compared,
        equal=compared - len(found),
        differences=tuple(found),
    )


def _answers(runs: Sequence[Run], alone: set[str]) -> Iterator[tuple[Run, Key, Answer]]:
    for run in runs:
        if run.workload in alone:
            for number, answer in enumerate(run.answers):
                if answer.error is None:
                    yield run, (run.workload, run.index, number), answer


def _divergence(
    key: Key, devices: int, baseline: int, answer: Answer, expected: Answer, margins: Sequence[Margin]
) -> Divergence:
    here, there = answer.text or "", expected.text or ""
    at = common_characters(here, there)
    workload, index, number = key
    known = (each.margin for each in margins if (each.workload, each.index, each.devices) == (workload, index, devices))
    return Divergence(
        workload=workload,
        index=index,
        answer=number,
        devices=devices,
        baseline=baseline,
        at_character=at,
        here=here[at : at + SHOWN_CHARACTERS],
        there=there[at : at + SHOWN_CHARACTERS],
        logit_margin=next(known, None),
    )
