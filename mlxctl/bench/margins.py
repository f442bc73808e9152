"""How close a call it was where two greedy answers part: the gap of the two likeliest tokens there. Used by session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from mlxctl.bench.client import Ask, Endpoint
from mlxctl.bench.prompts import Prompter
from mlxctl.bench.records import Margin, Run, Workload

MOST = 3
"""Divergences looked at on a launch: each asks its prompt once more."""


async def margins(
    endpoint: Endpoint, prompter: Prompter, workloads: Sequence[Workload], runs: Sequence[Run], devices: int
) -> list[Margin]:
    """Of the first answers on `devices` that differ from those on fewer; none where the server tells no logprobs."""
    found = []
    for workload, index, at in list(_divergences(workloads, runs, devices))[:MOST]:
        ask = Ask(prompter.conversation(workload, index), workload.output_tokens, seed=index)
        tokens = await endpoint.logprobs(ask)
        if (gap := gap_at(tokens, at)) is not None:
            found.append(Margin(devices=devices, workload=workload.id, index=index, at_character=at, margin=gap))
    return found


def _divergences(
    workloads: Sequence[Workload], runs: Sequence[Run], devices: int
) -> Iterator[tuple[Workload, int, int]]:
    """Workload, prompt and first character that differs; of single answers only, for a chat's depend on each other."""
    single = {workload.id: workload for workload in workloads if workload.kind in ("prefill", "decode")}
    first: dict[tuple[str, int], str] = {}
    for run in sorted((run for run in runs if run.workload in single), key=lambda run: run.devices):
        text = run.answers[0].text or ""
        known = first.setdefault((run.workload, run.index), text)
        if run.devices == devices and text != known:
            yield single[run.workload], run.index, common_characters(text, known)


def common_characters(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def gap_at(tokens: Sequence[Mapping[str, Any]], at_character: int) -> float | None:
    """The gap of log-probabilities at the token that brings character `at_character`. Markers, which bring no text,
    are told from text by their angle brackets. None where the answer is shorter or the likeliest two are not told.
    """
    reached = 0
    for token in tokens:
        text = str(token.get("token", ""))
        reached += 0 if text.startswith("<") and text.endswith(">") else len(text)
        if reached > at_character:
            top = sorted((float(each["logprob"]) for each in token.get("top_logprobs", ())), reverse=True)
            return top[0] - top[1] if len(top) > 1 else None
    return None
