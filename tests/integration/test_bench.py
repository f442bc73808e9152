"""`mlxctl bench` with real clusters: what it measures, what it keeps, what it leaves (nothing)."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from mlxctl.bench.build import build
from mlxctl.bench.journal import read_journal
from mlxctl.bench.load import load_report
from mlxctl.bench.report import SCHEMA_FILE, Report
from tests.commands import finish, mlxctl, start
from tests.scripted_api import serve

pytestmark = pytest.mark.integration

LITTLE = ("--pp", "16", "--tg", "4", "--runs", "1,1")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of one small bench on 1 and 2 devices."""
    folder = tmp_path_factory.mktemp("bench")
    files = [word for suffix in ("json", "html", "md", "csv") for word in ("-o", str(folder / f"r.{suffix}"))]
    finished = mlxctl("bench", "--devices", "1,2", *LITTLE, "--concurrency", "2", *files)
    assert finished.code == 0, finished.stderr
    (folder / "stdout").write_text(finished.stdout, encoding="utf-8")
    (folder / "stderr").write_text(finished.stderr, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(outputs: Path) -> Report:
    return load_report(outputs / "r.json")


def test_the_report_is_valid_under_the_shipped_schema(outputs: Path) -> None:
    import jsonschema

    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.validate(json.loads((outputs / "r.json").read_text(encoding="utf-8")), schema)


def test_counts_are_launched_there_and_back(report: Report) -> None:
    assert [(visit.devices, visit.fits) for visit in report.visits] == [(1, True), (2, True), (2, True), (1, True)]


def test_every_workload_was_measured_on_every_count(report: Report) -> None:
    found = {(result.devices, result.workload) for result in report.results}
    assert found == {(count, name) for count in (1, 2) for name in ("pp16", "tg4@64", "c2")}


def test_prompts_have_exactly_the_length_that_was_asked_for(report: Report) -> None:
    lengths = {run.workload: {answer.prompt_tokens for answer in run.answers} for run in report.runs}
    assert (lengths["pp16"], lengths["tg4@64"]) == ({16}, {64})


def test_two_devices_say_what_one_says(report: Report) -> None:
    assert report.equality.exact_expected
    assert report.equality.compared > 0
    assert not report.equality.differences


def test_the_report_tells_the_truth_about_the_machine(report: Report, outputs: Path) -> None:
    assert report.simulated_devices
    assert all("SIMULATED DEVICES" in (outputs / name).read_text() for name in ("r.html", "r.md", "stdout"))


def test_the_links_between_the_nodes_are_in_the_report(report: Report) -> None:
    assert {(link.source, link.target) for link in report.links} == {
        ("worker-1", "worker-2"),
        ("worker-2", "worker-1"),
    }
    assert all(link.rtt_p50_s and link.rtt_p99_s and link.bytes_per_s for link in report.links)
    assert {link.type for link in report.links} == {"one machine"}


def test_every_stage_accounts_for_its_time(report: Report) -> None:
    decoding = [each for each in report.stage_times if each.workload == "tg4@64"]
    assert {(each.devices, each.stage) for each in decoding} == {(1, 0), (2, 0), (2, 1)}
    assert all(0 < each.compute_s <= each.wall_s * 1.05 for each in decoding)
    assert all(abs(each.residual_s) < 0.3 * each.wall_s for each in decoding)


def test_memory_is_told_by_device(report: Report) -> None:
    two = next(visit for visit in report.visits if visit.devices == 2)
    assert [device.layers for device in two.stages] == [(0, 4), (4, 8)]
    assert all((device.peak_bytes or 0) > 0 for device in two.stages)


def test_predictions_and_rooflines_stand_beside_figures(report: Report) -> None:
    found = next(each for each in report.against if (each.workload, each.devices) == ("tg4@64", 2))
    assert found.predicted and found.roofline and found.roofline_share


def test_the_journal_holds_all_that_the_report_is_made_of(report: Report, outputs: Path) -> None:
    assert build(read_journal(outputs / "r.jsonl")) == report


def test_progress_is_plain_lines_without_a_terminal(outputs: Path) -> None:
    text = (outputs / "stderr").read_text()
    assert "launch 1 of 4, 1 device" in text and "launch 4 of 4, 1 device" in text
    assert "\x1b" not in text


def runs_in(journal: Path) -> int:
    return journal.read_text(encoding="utf-8").count('"kind":"run"') if journal.exists() else 0


def test_an_interrupted_bench_keeps_what_was_measured(tmp_path: Path) -> None:
    process = start("bench", "--devices", "1,2", "--pp", "16", "--runs", "500,500", "-o", str(tmp_path / "r.json"))
    until_s = time.monotonic() + 60
    while runs_in(tmp_path / "r.jsonl") < 3 and time.monotonic() < until_s:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    finished = finish(process)
    found = load_report(tmp_path / "r.json")
    assert finished.code == 130, finished.stderr
    assert found.how_it_ended == "interrupted" and len(found.runs) >= 3
    assert "interrupted" in finished.stderr and "Traceback" not in finished.stderr


def test_a_killed_bench_loses_nothing(tmp_path: Path) -> None:
    process = start("bench", "--devices", "1", "--pp", "16", "--runs", "500,500", "-o", str(tmp_path / "r.json"))
    until_s = time.monotonic() + 60
    while runs_in(tmp_path / "r.jsonl") < 3 and time.monotonic() < until_s:
        time.sleep(0.05)
    process.kill()
    finish(process)
    shown = mlxctl("bench", "show", str(tmp_path / "r.jsonl"), "-o", str(tmp_path / "again.json"))
    assert shown.code == 0, shown.stderr
    assert len(load_report(tmp_path / "again.json").runs) >= 3


@pytest.mark.slow
def test_a_count_that_does_not_fit_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    profile = tmp_path / "tight.yaml"
    nodes = "".join(f"  - {{name: {name}, host: localhost, memory: 500MB}}\n" for name in ("a", "b"))
    profile.write_text(f"name: tight\nconcurrency: 8\ncontext: 4096\nnodes:\n{nodes}")
    finished = mlxctl("bench", str(profile), "--devices", "1,2", *LITTLE, "-o", str(tmp_path / "r.json"))
    found = load_report(tmp_path / "r.json")
    assert finished.code == 0, finished.stderr
    assert found.counts == (2,)
    assert "1 device cannot hold the model" in finished.stdout


def test_a_foreign_server_is_measured_with_the_same_workloads(tmp_path: Path) -> None:
    with serve() as api:
        api.status = None
        api.scripts += [["one", " two", " three"]] * 40
        finished = mlxctl(
            "bench", "http", api.base_url, "--tokenizer", "canary", *LITTLE, "-o", str(tmp_path / "r.json")
        )
    found = load_report(tmp_path / "r.json")
    assert finished.code == 0, finished.stderr
    assert (found.target, found.model.name, found.simulated_devices) == ("http", "canary", False)
    assert {result.workload for result in found.results} == {"pp16", "tg4@64"}


@pytest.mark.slow
def test_random_weights_are_measured_without_a_download(tmp_path: Path) -> None:
    finished = mlxctl(
        "bench", "--random-weights", "canary-8bit", "--devices", "2", *LITTLE, "-o", str(tmp_path / "r.json")
    )
    found = load_report(tmp_path / "r.json")
    assert finished.code == 0, finished.stderr
    assert found.model.random_weights and found.results
    assert "The weights are random" in finished.stdout
