"""The command's options and exit codes; measuring itself is tested with real clusters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxctl.bench.journal import JournalWriter
from mlxctl.bench.records import Line
from mlxctl.cli.bench_summary import BAR_COLUMNS, bar
from tests.unit.bench.samples import journal, report, run, steady
from tests.unit.cli.conftest import Mlxctl

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are not folded, wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Two reports; the second is a fifth slower."""
    slow = report(speed=lambda workload, devices: 1.2 * steady(workload, devices), seed=1)
    for name, made in (("a", report()), ("b", slow)):
        (tmp_path / f"{name}.json").write_text(made.to_json(), encoding="utf-8")
    return str(tmp_path / "a.json"), str(tmp_path / "b.json")


def write_journal(folder: Path, lines: list[Line]) -> None:
    with JournalWriter(folder / "a.jsonl") as writer:
        for line in lines:
            writer.write(line)


@pytest.mark.parametrize("part", ["compare", "http", "show"])
def test_every_part_explains_itself(mlxctl: Mlxctl, part: str) -> None:
    outcome = mlxctl("bench", part, "--help")
    assert outcome.code == 0
    assert f" bench {part} [OPTIONS]" in outcome.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quick", "--full"], "--quick and --full exclude each other"),
        (["--devices", "1,3"], "the profile has 2 nodes"),
        (["--devices", "two"], "is no list of numbers"),
        (["--pp", "x"], "--pp 'x' is no list of numbers"),
        (["--pp", "0"], "at least 1"),
        (["--pp", "999999"], "none of the workloads fits"),
        (["--runs", "5,2"], "give the least number first"),
        (["--prompts", "/no/such/file"], "cannot read --prompts"),
        (["-o", "report.pdf"], "no such format"),
        (["-o", "/no/such/folder/report.json"], "there is no folder"),
        (["--random-weights", "qwen9-8b-4bit"], "no model that is known by its shape"),
        (["nothere.yaml"], "nothere.yaml"),
        (["--model", "canary", "--random-weights", "qwen3-8b-4bit"], "exclude each other"),
        (["--attach", "-", "--devices", "1"], "--attach and --devices exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    mlxctl: Mlxctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = mlxctl("bench", *options)
    assert outcome.code in (1, 2)
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.glob("*.json*"))


def test_nothing_to_attach_to_exits_with_3(mlxctl: Mlxctl) -> None:
    assert mlxctl("bench", "--attach", "-").code == 3


def test_a_server_that_is_not_there_exits_with_3(
    mlxctl: Mlxctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mlxctl("bench", "http", "http://127.0.0.1:1/v1").code == 3


def test_a_report_is_shown(mlxctl: Mlxctl, files: tuple[str, str]) -> None:
    outcome = mlxctl("bench", "show", files[0])
    assert outcome.code == 0
    assert "SIMULATED DEVICES" in outcome.out
    assert "tg16@1024" in outcome.out and "tok/s" in outcome.out


def test_a_crashed_bench_is_shown_from_its_journal(mlxctl: Mlxctl, tmp_path: Path) -> None:
    made = journal()
    write_journal(tmp_path, [made.head, *made.visits, *made.runs])
    outcome = mlxctl("bench", "show", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "a.html"))
    assert outcome.code == 0
    assert "did not end by itself (crashed)" in outcome.out
    assert "<svg" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_comparison_without_limits_succeeds_whatever_it_finds(mlxctl: Mlxctl, files: tuple[str, str]) -> None:
    outcome = mlxctl("bench", "compare", *files)
    assert outcome.code == 0
    assert "regressed" in outcome.out


def test_a_broken_limit_exits_with_1(mlxctl: Mlxctl, files: tuple[str, str]) -> None:
    outcome = mlxctl("bench", "compare", *files, "--fail", "tg_tps:-3%")
    assert outcome.code == 1
    assert "fail: tg16@64 tg_tps on 1 changed by -1" in outcome.err


def test_a_limit_that_is_kept_exits_with_0(mlxctl: Mlxctl, files: tuple[str, str]) -> None:
    assert mlxctl("bench", "compare", files[0], files[0], "--fail", "tg_tps:-10%").code == 0


def test_a_limit_that_nothing_can_judge_exits_with_1(mlxctl: Mlxctl, files: tuple[str, str]) -> None:
    outcome = mlxctl("bench", "compare", *files, "--fail", "nonsense:-3%")
    assert outcome.code == 1
    assert "there is no nonsense that could be compared" in outcome.err


def test_a_change_too_small_to_be_seen_is_told(mlxctl: Mlxctl, files: tuple[str, str]) -> None:
    outcome = mlxctl("bench", "compare", files[0], files[0], "--fail", "tg_tps:-0.1%")
    assert outcome.code == 0
    assert "too small to be seen" in outcome.err


def test_a_comparison_is_json_on_request(mlxctl: Mlxctl, files: tuple[str, str]) -> None:
    document = json.loads(mlxctl("bench", "compare", *files, "--json").out)
    assert document["schema"] == "mlxctl.bench-compare/1"


def test_an_unknown_fact_is_refused(mlxctl: Mlxctl, files: tuple[str, str]) -> None:
    outcome = mlxctl("bench", "compare", *files, "--across", "colour")
    assert outcome.code == 2
    assert "one of tool, model" in outcome.err


def test_a_bar_is_as_long_as_its_share() -> None:
    assert bar(1.0) == "█" * BAR_COLUMNS
    assert bar(0.0) == ""
    assert len(bar(0.5)) == BAR_COLUMNS // 2


def test_a_wrong_text_is_told_on_the_terminal(mlxctl: Mlxctl, tmp_path: Path) -> None:
    made = journal()
    wrong = run(made.head.workloads[1], 2, 1, 0, 1.0, text="a b d")
    write_journal(tmp_path, [made.head, *made.visits, *made.runs, wrong])
    assert "✗ WRONG OUTPUT" in mlxctl("bench", "show", str(tmp_path / "a.jsonl")).out
