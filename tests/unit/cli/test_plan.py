"""`mlxctl plan` as a person and a script see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Mlxctl

pytestmark = pytest.mark.unit

FACTS = """nodes:
  - {name: studio, chip: M2 Max, memory: 64GB, link: 10GbE}
  - {name: mini1, chip: M4, memory: 16GB, link: 1GbE}
  - {name: mini2, chip: M4, memory: 16GB, link: 1GbE}
"""
LLAMA_70B = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "quantization": {"group_size": 64, "bits": 4},
}


@pytest.fixture
def large(tmp_path: Path) -> tuple[str, ...]:
    """Arguments for a 70B model on one large and two small Macs that nobody has."""
    (tmp_path / "llama-70b").mkdir()
    (tmp_path / "llama-70b" / "config.json").write_text(json.dumps(LLAMA_70B))
    (tmp_path / "facts.yaml").write_text(FACTS)
    return ("--model", str(tmp_path / "llama-70b"), "--simulate", str(tmp_path / "facts.yaml"))


def test_the_default_plan_is_two_workers_here(mlxctl: Mlxctl) -> None:
    outcome = mlxctl("plan", "--no-measure")
    assert outcome.code == 0
    assert outcome.out.startswith("canary on 2 nodes: 8 sequences of 4096 tokens")
    assert "worker-1  layers 0-3  █▓░·" in outcome.out
    assert "a pipeline does not speed up one stream" in outcome.out
    assert "50 GB/s (assumed)" in outcome.out
    assert "\x1b" not in outcome.out
    assert outcome.err == ""


def test_a_node_s_bar_is_as_long_as_its_memory(mlxctl: Mlxctl, large: tuple[str, ...]) -> None:
    out = mlxctl("plan", *large, "--concurrency", "1").out
    bars = {
        line.split()[0]: sum(line.count(cell) for cell in "█▓░·") for line in out.splitlines() if "layers " in line[:20]
    }
    assert bars["studio"] == pytest.approx(bars["mini1"] * 48 / 10.67, abs=3)


def test_the_document_says_all_that_the_picture_does(mlxctl: Mlxctl, large: tuple[str, ...]) -> None:
    document = json.loads(mlxctl("plan", *large, "--concurrency", "1", "--json").out)
    assert document["schema"] == "mlxctl.plan/1"
    assert [stage["layers"][1] for stage in document["stages"]][-1] == 80
    assert {stage["node"] for stage in document["stages"]} == {"studio", "mini1", "mini2"}
    assert document["largest"]["context"] > 8192
    assert document["prediction"]["one_stream"]["bound"] == "memory bandwidth"
    studio = next(node for node in document["nodes"] if node["name"] == "studio")
    assert studio["sources"]["bandwidth_bytes_per_s"] == "table"


def test_without_a_node_says_what_changes(mlxctl: Mlxctl, large: tuple[str, ...]) -> None:
    outcome = mlxctl("plan", *large, "--concurrency", "1", "--without", "mini2")
    assert "without mini2" in outcome.out
    assert "largest context" in outcome.out and "→" in outcome.out
    assert "mini2  " not in outcome.out


def test_flags_change_the_profile(mlxctl: Mlxctl) -> None:
    flags = ("--context", "512", "--concurrency", "3", "--objective", "latency", "--no-measure", "--json")
    document = json.loads(mlxctl("plan", *flags).out)
    assert (document["context"], document["concurrency"], document["objective"]) == (512, 3, "latency")
    assert len(document["stages"]) == 1
    assert document["unused"][0]["node"] == "worker-2"


def test_a_plan_that_does_not_fit_says_what_would(mlxctl: Mlxctl, large: tuple[str, ...]) -> None:
    outcome = mlxctl("plan", *large, "--concurrency", "64")
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith("error: llama-70b with 64 x 8192 tokens needs ")
    assert "this would fit: context" in outcome.err


def test_a_four_mac_profile_is_planned_without_macs(mlxctl: Mlxctl) -> None:
    document = json.loads(mlxctl("plan", "4xm4", "--model", "canary", "--context", "4096", "--local", "--json").out)
    assert [stage["layers"] for stage in document["stages"]] == [[0, 2], [2, 4], [4, 6], [6, 8]]
    assert {stage["budget_bytes"] for stage in document["stages"]} == {12 << 30}


def test_measured_speeds_are_said_to_be_measured(mlxctl: Mlxctl) -> None:
    assert "GB/s (measured)" in mlxctl("plan").out


def test_an_unknown_node_is_a_usage_error(mlxctl: Mlxctl) -> None:
    outcome = mlxctl("plan", "--no-measure", "--without", "worker-3")
    assert outcome.code == 2
    assert "hint: did you mean worker-" in outcome.err


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_no_line_is_wider_than_the_terminal(
    columns: str, mlxctl: Mlxctl, large: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = mlxctl("plan", *large, "--concurrency", "1").out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= int(columns)
