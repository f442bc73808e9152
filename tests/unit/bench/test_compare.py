"""Comparisons compare what can be compared, and say how sure they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxctl.bench.columns import Columns, load_columns, of_report
from mlxctl.bench.compare import Comparison, Row, compare, parse_limit
from mlxctl.bench.compare_views import to_csv, to_html, to_json, to_markdown
from mlxctl.bench.records import Workload
from mlxctl.errors import UsageError
from tests.unit.bench.samples import DECODE, head, report, steady

pytestmark = pytest.mark.unit


def slower(workload: Workload, devices: int) -> float:
    return 1.2 * steady(workload, devices)


def columns(**wishes: object) -> Columns:
    return of_report(report(**wishes), "sample")


def row(found: Comparison, workload: str = "tg16@64", metric: str = "tg_tps") -> Row:
    return next(each for each in found.rows if (each.workload, each.metric, each.devices) == (workload, metric, 1))


def test_a_slower_run_has_regressed() -> None:
    found = row(compare(columns(), columns(speed=slower, seed=1)))
    assert found.verdict == "regressed"
    assert found.change == pytest.approx(1 / 1.2 - 1, abs=0.03)
    assert found.interval is not None and found.interval.high < 0
    assert found.p is not None and found.p_raw is not None and found.p_raw <= found.p <= 0.05


def test_a_time_that_falls_has_improved() -> None:
    found = compare(columns(speed=slower), columns(seed=1))
    assert row(found, "pp128", "ttft_s").verdict == "improved"


def test_the_same_again_is_no_evidence() -> None:
    found = compare(columns(), columns(seed=1))
    assert {each.verdict for each in found.rows} == {"no evidence"}


def test_what_could_have_been_seen_is_told() -> None:
    found = row(compare(columns(), columns(seed=1)))
    assert found.detectable is not None and 0.005 < found.detectable < 0.3


def test_a_busy_machine_is_said_to_have_been_one() -> None:
    busy = head()
    hosts = tuple(host.model_copy(update={"load_1m": 8.0}) for host in busy.hosts)
    found = compare(columns(), columns(of=busy.model_copy(update={"hosts": hosts})))
    (note,) = found.notes
    assert note.startswith("B: ") and "busy" in note
    assert all(note in view(found) for view in (to_html, to_markdown, to_json))


def test_too_few_runs_are_told() -> None:
    found = row(compare(columns(runs=4), columns(runs=4, speed=slower)))
    assert (found.verdict, found.reason) == ("no evidence", "too few runs for so many rows")


def test_fewer_rows_see_more() -> None:
    wide = row(compare(columns(), columns(seed=1)))
    narrow = row(compare(columns(), columns(seed=1), metrics=["tg_tps"]))
    assert narrow.p is not None and wide.p is not None and narrow.p <= wide.p


@pytest.mark.parametrize(
    ("other", "reason"),
    [({"chip": "Apple M5"}, "chip differs: Apple M4 and Apple M5"), ({"model_hash": "d"}, "model differs: abc and d")],
)
def test_what_is_not_comparable_is_not_compared(other: dict[str, str], reason: str) -> None:
    found = compare(columns(), columns(of=head(**other)))  # type: ignore[arg-type]
    assert found.differences == (reason,)
    assert {each.verdict for each in found.rows} == {"not compared"}


def test_a_fact_that_may_differ_is_what_is_compared() -> None:
    found = compare(columns(), columns(of=head(chip="Apple M5"), seed=1), across=["chip"])
    assert not found.differences
    assert row(found).verdict == "no evidence"


def test_another_depth_is_another_thing() -> None:
    deeper = DECODE.model_copy(update={"prompt_tokens": 128})
    found = row(compare(columns(), columns(of=head(workloads=[deeper]))))
    assert (found.verdict, found.reason) == ("not compared", "the workloads differ (lengths, depth, streams)")


def test_what_only_one_has_is_shown() -> None:
    found = compare(columns(), columns(of=head(workloads=[DECODE])))
    assert row(found, "pp128", "pp_tps").reason == "only in A"


@pytest.mark.parametrize(
    ("limit", "broken"),
    [("tg_tps:-3%", True), ("tg_tps:-50%", False), ("tg16@64/tg_tps:-3%", True), ("c4/tg_tps:-3%", False)],
)
def test_a_limit_is_broken_by_what_got_worse_with_evidence(limit: str, broken: bool) -> None:
    found = compare(columns(), columns(speed=slower, seed=1))
    assert any(parse_limit(limit).is_broken_by(each) for each in found.rows) is broken


def test_a_limit_on_a_time_looks_upwards() -> None:
    found = compare(columns(), columns(speed=slower, seed=1))
    assert any(parse_limit("ttft_s:+5%").is_broken_by(each) for each in found.rows)


@pytest.mark.parametrize("text", ["tg_tps", "tg_tps:-3", ":-3%", "tg_tps:0%", "tg_tps:x%"])
def test_a_limit_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no limit"):
        parse_limit(text)


LLAMA: list[dict[str, Any]] = [
    {
        "model_filename": "/models/qwen3-8b-q4_0.gguf",
        "gpu_info": "Apple M4",
        "cpu_info": "Apple M4",
        "n_prompt": 512,
        "n_gen": 0,
        "n_depth": 0,
        "avg_ts": 300.0,
        "stddev_ts": 1.0,
        "samples_ts": [299.0, 300.0, 301.0],
    },
    {"model_filename": "/models/qwen3-8b-q4_0.gguf", "n_prompt": 0, "n_gen": 128, "n_depth": 4096, "avg_ts": 20.0},
    {"model_filename": "/models/qwen3-8b-q4_0.gguf", "n_prompt": 512, "n_gen": 128, "avg_ts": 90.0},
]


def test_llama_bench_is_read_as_columns(tmp_path: Path) -> None:
    path = tmp_path / "llama.json"
    path.write_text(json.dumps(LLAMA))
    found = load_columns(path)
    assert found.facts["chip"] == "Apple M4"
    assert found.series[1, "pp512", "pp_tps"].values == (299.0, 300.0, 301.0)
    assert found.series[1, "tg128@4096", "tg_tps"].mean == 20.0
    assert len(found.series) == 2


def test_another_tools_figures_stand_beside_ours_without_a_verdict(tmp_path: Path) -> None:
    path = tmp_path / "llama.json"
    path.write_text(json.dumps(LLAMA))
    found = compare(columns(), load_columns(path))
    assert any("tool differs" in each for each in found.differences)
    assert next(each for each in found.rows if each.workload == "pp512").b == 300.0


def test_pytest_benchmark_is_read_as_columns(tmp_path: Path) -> None:
    path = tmp_path / "pytest.json"
    stats = {"mean": 0.2, "data": [0.1, 0.2, 0.3]}
    document = {"machine_info": {"cpu": {"brand_raw": "x"}}, "benchmarks": [{"fullname": "t::a", "stats": stats}]}
    path.write_text(json.dumps(document))
    found = load_columns(path)
    series = found.series[0, "t::a", "seconds"]
    assert (series.better, series.values, found.facts["chip"]) == ("lower", (0.1, 0.2, 0.3), "x")


@pytest.mark.parametrize("document", [[{"a": 1}], {"benchmarks": [1]}, {"schema": "x"}])
def test_a_foreign_file_is_a_clear_error(tmp_path: Path, document: object) -> None:
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"x\.json"):
        load_columns(tmp_path / "x.json")


def test_a_comparison_has_a_forest_plot_and_all_formats() -> None:
    found = compare(columns(), columns(speed=slower, seed=1))
    assert '<section id="forest">' in to_html(found)
    assert "regressed" in to_markdown(found) and "regressed" in to_csv(found)
    assert json.loads(to_json(found))["schema"] == "mlxctl.bench-compare/1"
