"""What the engine's benchmarks found, as a report like any other: checked, shown, written, compared."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import jsonschema
import pytest

from mlxctl.bench.columns import of_report
from mlxctl.bench.html import to_html
from mlxctl.bench.load import load_report
from mlxctl.bench.records import Host, Model
from mlxctl.bench.report import SCHEMA_FILE, EngineFigure, Report
from mlxctl.bench.tables import to_csv, to_markdown
from mlxctl.bench_engine.figure import plain, ratio
from mlxctl.bench_engine.figures import GROUPS, EngineBench
from mlxctl.bench_engine.report import EngineHead, engine_report

pytestmark = pytest.mark.unit

SLOW = ratio(
    "server",
    "8 clients",
    ("mlxctl over HTTP", "mlx_lm.server"),
    "tok/s",
    [(9.0, 10.0), (8.0, 10.0), (7.0, 10.0)],
    wanted=1.0,
    note="48 <tokens>",
)
ECHO = plain("wire", "echo of 4 KiB", "round trip", "µs", [200.0, 210.0, 220.0], wanted=250, better="lower")


def made(*figures: EngineFigure, how: str = "complete", load_1m: float = 0.1) -> Report:
    host = Host(
        name="this machine", nodes=("w0", "w1"), chip="Apple M4", os="macOS", memory_bytes=1, cores=4, load_1m=load_1m
    )
    bench = EngineBench("canary", Path(), 2, 3, (8,))
    head = EngineHead(bench, "2026-01-01T00:00:00.000Z", host, Model(name="canary", dtype="float32"))
    return engine_report(head, figures, how)  # type: ignore[arg-type]


def test_it_is_valid_under_the_schema_of_all_reports_and_is_read_back_whole(tmp_path: Path) -> None:
    report = made(SLOW, ECHO)
    file = tmp_path / "a.json"
    file.write_text(report.to_json(), encoding="utf-8")
    jsonschema.validate(json.loads(file.read_text()), json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    assert load_report(file) == report


def test_it_says_which_figures_fall_short_and_of_what() -> None:
    sentences = [sentence.text for sentence in made(SLOW, ECHO).verdicts]
    assert "1 of 2 figures are what is wanted, by their medians." in sentences
    assert "8 clients: 0.8, wanted at least 1.00" in sentences
    assert not any("echo" in sentence for sentence in sentences)


def test_it_says_that_the_machine_was_busy() -> None:
    assert any("was busy" in sentence.text for sentence in made(ECHO, load_1m=3.0).verdicts)
    assert not any("was busy" in sentence.text for sentence in made(ECHO).verdicts)


def test_what_was_cut_short_says_so_and_nothing_at_all_is_an_error() -> None:
    assert any("did not end by itself" in sentence.text for sentence in made(ECHO, how="interrupted").verdicts)
    assert made(how="interrupted").has_error


def test_markdown_page_and_table_have_every_figure() -> None:
    report = made(SLOW, ECHO)
    markdown, page = to_markdown(report), to_html(report)
    assert "| 8 clients | 0.8 | 0.7 to 0.9 |" in markdown and "8.00 / 10.0 tok/s" in markdown
    assert '<section id="engine">' in page and "at most 250" in page and "48 &lt;tokens&gt;" in page
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert [(row["workload"], row["metric"], row["wanted"]) for row in rows] == [
        ("8 clients", "server", "1.0"),
        ("echo of 4 KiB", "wire", "250.0"),
    ]


def test_its_figures_can_be_compared() -> None:
    series = of_report(made(SLOW, ECHO), "a").series
    assert series[2, "8 clients", "server"].values == (0.9, 0.8, 0.7)
    assert series[2, "echo of 4 KiB", "wire"].better == "lower"


def test_only_what_was_measured_is_defined() -> None:
    bench = EngineBench("canary", Path(), 2, 3, (8,), ("wire",))
    report = made(ECHO)
    assert set(report.definitions) == {"round", *GROUPS}
    head = EngineHead(bench, "2026-01-01T00:00:00.000Z", report.hosts[0], report.model)
    assert set(engine_report(head, [ECHO], "complete").definitions) == {"round", "wire"}
