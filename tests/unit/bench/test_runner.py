"""A bench from its first visit to its last, against servers that say what a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mlxctl.bench.build import build
from mlxctl.bench.journal import Journal, JournalWriter, sort_lines
from mlxctl.bench.records import Run
from mlxctl.bench.runner import Bench, Opener, Target, Watcher
from mlxctl.bench.suites import STANDARD, Suite
from mlxctl.errors import DoesNotFit, RequestError
from tests.scripted_api import Refusal, Step, serve
from tests.unit.bench.samples import DECODE, PREFILL, head

pytestmark = pytest.mark.unit

SUITE = replace(STANDARD, least_runs=2, most_runs=2, most_warm_ups=1)


def opener(scripts: dict[int, list[Step]], asked: list[int]) -> Opener:
    """A server of its own for every visit, which says `scripts[devices]` all the time."""

    @contextmanager
    def open_target(devices: int) -> Iterator[Target]:
        asked.append(devices)
        if devices not in scripts:
            raise DoesNotFit("it needs 20 GiB")
        with serve() as api:
            api.status = None
            api.scripts += [scripts[devices]] * 100
            yield Target(api.base_url, "canary", bring_up_s=1.0)

    def call(devices: int) -> AbstractContextManager[Target]:
        return open_target(devices)

    return call


def run_bench(
    tmp_path: Path, scripts: dict[int, list[Step]], suite: Suite = SUITE, watcher: Watcher | None = None
) -> tuple[Journal, list[int]]:
    asked: list[int] = []
    known = head(counts=(1, 2), workloads=(PREFILL, DECODE))
    with JournalWriter(tmp_path / "a.jsonl") as journal:
        journal.write(known)
        Bench(known, suite, opener(scripts, asked), None, watcher or Watcher()).run(journal)
        return sort_lines(journal.lines), asked


HELLO: list[Step] = ["one", " two", " three"]


def test_visits_follow_the_plan(tmp_path: Path) -> None:
    found, asked = run_bench(tmp_path, {1: HELLO, 2: HELLO})
    assert asked == [1, 2, 2, 1]
    assert [visit.number for visit in found.visits] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_each_workload_warms_up_on_every_visit_and_then_counts(tmp_path: Path) -> None:
    found, _ = run_bench(tmp_path, {1: HELLO, 2: HELLO})
    first = [run for run in found.runs if run.visit == 0]
    assert [(run.workload, run.warm_up) for run in first[:2]] == [("pp128", True), ("tg16@64", True)]
    assert sorted(run.workload for run in first[2:]) == ["pp128", "tg16@64"]


def test_equal_indices_ask_equal_prompts_on_every_count(tmp_path: Path) -> None:
    found, _ = run_bench(tmp_path, {1: HELLO, 2: HELLO})
    indices = {
        devices: sorted((run.workload, run.index) for run in found.runs if run.devices == devices and not run.warm_up)
        for devices in (1, 2)
    }
    assert indices[1] == indices[2] == [("pp128", 0), ("pp128", 1), ("tg16@64", 0), ("tg16@64", 1)]


def test_a_cluster_that_says_something_else_is_a_red_error(tmp_path: Path) -> None:
    found, _ = run_bench(tmp_path, {1: HELLO, 2: ["one", " two", " four"]})
    report = build(found)
    assert report.has_error
    assert "WRONG OUTPUT" in report.verdicts[0].text
    assert report.equality.differences[0].at_character == 8


def test_a_count_that_does_not_fit_is_asked_for_once_and_noted(tmp_path: Path) -> None:
    found, asked = run_bench(tmp_path, {2: HELLO})
    assert asked == [1, 2, 2]
    assert (found.visits[0].fits, found.visits[0].fault) == (False, "it needs 20 GiB")
    assert {run.devices for run in found.runs} == {2}


def test_without_time_each_workload_still_runs_once(tmp_path: Path) -> None:
    found, _ = run_bench(tmp_path, {1: HELLO, 2: HELLO}, replace(SUITE, least_runs=40, most_runs=40, budget_s=0.0))
    counted = [run for run in found.runs if not run.warm_up]
    assert len(counted) == 4 * 2


def test_a_server_that_answers_nothing_ends_the_bench(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such model"):
        run_bench(tmp_path, {1: [Refusal(404, "no such model", code="model_not_found")]})


def test_what_goes_on_is_told(tmp_path: Path) -> None:
    visits: list[int] = []
    seen: list[tuple[str, bool]] = []
    watcher = Watcher(
        on_visit=lambda order: visits.append(order.devices),
        on_progress=lambda progress: seen.append((progress.workload, progress.warm_up)),
    )
    run_bench(tmp_path, {1: HELLO, 2: HELLO}, watcher=watcher)
    assert visits == [1, 2, 2, 1]
    assert seen[0] == ("pp128", True) and len(seen) == 16


def test_every_run_is_written_as_it_ends(tmp_path: Path) -> None:
    lengths: list[int] = []

    def look(_: object) -> None:
        lengths.append((tmp_path / "a.jsonl").read_text(encoding="utf-8").count('"kind":"run"'))

    found, _ = run_bench(tmp_path, {1: HELLO, 2: HELLO}, watcher=Watcher(on_progress=look))
    assert lengths == list(range(len(found.runs)))
    assert all(isinstance(run, Run) for run in found.runs)
