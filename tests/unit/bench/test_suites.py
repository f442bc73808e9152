"""Suites hold what fits, and what was asked for."""

from __future__ import annotations

import pytest

from mlxctl.bench.suites import FULL, QUICK, STANDARD, only, workloads
from mlxctl.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("suite", [QUICK, STANDARD, FULL])
def test_every_workload_has_a_name_of_its_own(suite: object) -> None:
    names = [each.id for each in workloads(suite, 1 << 20, 1 << 10)]  # type: ignore[arg-type]
    assert len(names) == len(set(names))


def test_the_full_suite_is_what_was_promised() -> None:
    names = {each.id for each in workloads(FULL, 1 << 20, 64)}
    assert {"pp128", "pp8192", "tg128@64", "tg128@4096", "c1", "c32", "chat6", "r0.5"} <= names


def test_what_does_not_fit_the_context_is_left_out() -> None:
    assert all(each.prompt_tokens + each.output_tokens <= 1024 for each in workloads(FULL, 1024, 64))


def test_more_streams_than_sequences_are_left_out() -> None:
    assert max(each.streams for each in workloads(FULL, 8192, 4) if each.kind == "concurrent") == 4


def test_nothing_that_fits_is_an_error_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="none of the workloads fits 16 tokens"):
        workloads(QUICK, 16, 8)


def test_asking_for_something_leaves_out_all_else() -> None:
    asked = only(STANDARD, prefill=(32,), decode_tokens=None, streams=None)
    assert [each.id for each in workloads(asked, 4096, 8)] == ["pp32"]


def test_asking_for_runs_leaves_the_workloads_alone() -> None:
    asked = only(STANDARD, least_runs=2, most_runs=3)
    assert (asked.prefill, asked.least_runs, asked.most_runs) == (STANDARD.prefill, 2, 3)


def test_prompts_of_a_file_are_a_workload() -> None:
    asked = only(STANDARD, prompts=("a", "b"))
    (found,) = workloads(asked, 4096, 8)
    assert (found.kind, found.prompts) == ("file", ("a", "b"))
