"""`mlxctl bench` on clusters in which something is slow or wrong on purpose: the report says what."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mlxctl.bench.build import build
from mlxctl.bench.journal import JournalWriter, sort_lines
from mlxctl.bench.load import load_report
from mlxctl.bench.prepare import Wish, local_head
from mlxctl.bench.prompts import load_tokenizer
from mlxctl.bench.records import Run
from mlxctl.bench.runner import Bench, Target, Watcher, running_target
from mlxctl.bench.suites import STANDARD, only
from mlxctl.cluster import Cluster
from mlxctl.profile import load_profile
from tests import wrong_cut
from tests.commands import finish, start

pytestmark = pytest.mark.integration


@contextmanager
def held_up(pid: int) -> Iterator[None]:
    """The process `pid` runs for a quarter of the time only."""
    process, over = psutil.Process(pid), threading.Event()

    def hold() -> None:
        while not over.is_set():
            process.suspend()
            time.sleep(0.015)
            process.resume()
            time.sleep(0.005)

    thread = threading.Thread(target=hold, name="hold")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        process.resume()


@pytest.mark.slow
def test_a_slowed_stage_shows_up_as_that_stages_computing(tmp_path: Path) -> None:
    profile = load_profile(None, {"name": f"slowed-{os.getpid()}"})
    suite = only(STANDARD, decode_tokens=24, depths=(0,), least_runs=3, most_runs=3)
    head = local_head(profile, "", Wish(suite, 0, (2,), "slowed", attached=True), lambda line: None)
    with Cluster.up(profile) as cluster, JournalWriter(tmp_path / "r.jsonl") as journal:
        journal.write(head)
        target = Target(cluster.base_url, cluster.profile.model)
        bench = Bench(head, suite, running_target(target), load_tokenizer("canary"), Watcher())
        with held_up(cluster.status()["stages"][1]["pid"]):
            bench.run(journal)
    assert sum(isinstance(line, Run) for line in journal.lines) >= 3
    found = build(sort_lines(journal.lines))
    first, second = (each.compute_s for each in found.stage_times)
    assert second > 1.5 * first
    assert {each.limiter for each in found.against} == {"computing on worker-2"}


@pytest.mark.slow
def test_a_wrong_cut_is_an_error_in_red(tmp_path: Path) -> None:
    model = wrong_cut.write_checkpoint(tmp_path)
    files = ("-o", str(tmp_path / "r.json"), "-o", str(tmp_path / "r.html"))
    words = ("bench", "--devices", "1,2", "--model", str(model), "--pp", "16", "--tg", "8", "--runs", "1,1", *files)
    finished = finish(start(*words, environment=wrong_cut.environment(tmp_path)))
    found = load_report(tmp_path / "r.json")
    assert finished.code == 1 and "WRONG OUTPUT" in finished.stdout
    assert found.equality.exact_expected and found.equality.differences
    assert {(each.devices, each.baseline) for each in found.equality.differences} == {(2, 1)}
    assert '<li class="error">' in (tmp_path / "r.html").read_text(encoding="utf-8")
