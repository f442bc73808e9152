"""`mlxctl check`: its arguments, its table, its document and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlxctl.cli import check as verb
from mlxctl.cli.check import legal_text, parse_cuts, render, sampled_prompts, split_text, summary
from mlxctl.cli.main import run
from mlxctl.cli.output import console
from mlxctl.errors import UsageError
from mlxctl.sharding.check import Finding, Split, document
from tests.tiny_models import write_checkpoint

pytestmark = pytest.mark.unit

EXACT = document("sound", Finding("exact", "", 8, {}, (Split((4,), 0.0, 1024, False),)))
WRONG = document("broken", Finding("wrong", "cut at [3]: …", 6, {5: "why"}, (Split((3,), 0.25, 256, False),)))


@pytest.fixture(autouse=True)
def short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "PROMPT_LENGTHS", (4,))
    monkeypatch.setattr(verb, "DECODED", 1)


def test_a_model_in_a_folder_is_checked_and_reported_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path, "llama")
    assert run(["check", str(tmp_path), "--cuts", "3,5", "--cuts", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "mlxctl.check/1"
    assert report["summary"] == {"exact": 1}
    (model,) = report["models"]
    assert [split["cuts"] for split in model["splits"]] == [[3, 5], [1]]


def test_the_table_shows_each_way_a_model_was_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path, "llama")
    assert run(["check", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "any of 1 … 7" in shown
    assert "1, 2, 3, 4, 5, 6, 7" in shown
    assert shown.splitlines()[-1] == "1 exact"


def test_a_wrong_result_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verb, "check_model", lambda *_: WRONG)
    assert run(["check", "canary"]) == 1
    assert "differs by 0.25" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [[], ["canary", "--all"], ["canary", "--cuts", "x"], ["canary", "--cuts", "5,3"], ["canary", "--cuts", ""]],
)
def test_arguments_that_make_no_sense_are_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", *arguments]) == 2
    assert "hint:" in capsys.readouterr().err


@pytest.mark.parametrize("cuts", ["0", "8", "3,99", "-1"])
def test_cuts_that_the_model_does_not_have_are_named(cuts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "canary", "--cuts", cuts]) == 1
    assert "layers" in capsys.readouterr().err


def test_an_unknown_model_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "no-such-model"]) == 1
    assert "no-such-model" in capsys.readouterr().err


def test_an_unknown_case_lists_those_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tests = tmp_path / "test_models.py"
    tests.write_text("import unittest\nclass TestModels(unittest.TestCase): pass\n")
    assert run(["check", "--all", "--tests", str(tests), "--only", "lama"]) == 2
    said = capsys.readouterr().err
    assert "no case 'lama'" in said
    assert "llama" in said


def test_a_model_too_large_to_run_whole_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = psutil.virtual_memory()._replace(available=1_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert run(["check", "canary"]) == 1
    assert "to run whole" in capsys.readouterr().err


def test_lists_of_cuts_are_read() -> None:
    assert parse_cuts("4") == (4,)
    assert parse_cuts("1,4,12") == (1, 4, 12)
    with pytest.raises(UsageError, match="must rise") as raised:
        parse_cuts("4,1,4")
    assert raised.value.hint == "--cuts 1,4"


def test_prompts_are_the_same_each_time_and_within_the_vocabulary() -> None:
    config: dict[str, Any] = {"text_config": {"vocab_size": 7}}
    prompts = list(sampled_prompts(config))
    assert prompts == list(sampled_prompts(config))
    assert [sum(len(chunk[0]) for chunk in prompt) for prompt in prompts] == [4]
    assert all(0 <= token < 7 for prompt in prompts for chunk in prompt for token in chunk[0])


def test_verdicts_are_counted() -> None:
    assert summary([EXACT, WRONG, EXACT]) == {"exact": 2, "wrong": 1}


def test_where_a_model_may_be_cut_is_said_briefly() -> None:
    assert legal_text(EXACT) == "any of 1 … 7"
    assert legal_text(WRONG) == "any of 1 … 4"
    assert legal_text(document("x", Finding("exact", "", 5, {1: "why", 3: "why"}))) == "2, 4"
    assert legal_text(document("x", Finding("not splittable", "", 3, {1: "why", 2: "why"}))) == ""


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (Split((1,), 0.0, 1, False), "exact"),
        (Split((1,), 0.0, 1, True), "exact, but what crosses grows"),
        (Split((1,), 0.5, 1, False), "differs by 0.5"),
        (Split((1,), float("inf"), 1, False), "not a number"),
        (Split((1,), float("inf"), 1, False, "no"), "failed"),
    ],
)
def test_a_split_says_how_it_went(split: Split, says: str) -> None:
    entry = document("x", Finding("wrong", splits=(split,)))
    assert split_text(entry["splits"][0]) == says


def test_all_architectures_take_one_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(render([EXACT, WRONG], splits=False))
    assert len(capsys.readouterr().out.splitlines()) == 3
