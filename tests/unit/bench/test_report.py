"""The report's JSON is what its shipped schema says, and is read back whole."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from mlxctl.bench.load import load_report, parse_report
from mlxctl.bench.report import SCHEMA_FILE, json_schema
from mlxctl.errors import UsageError
from tests.unit.bench.samples import report

pytestmark = pytest.mark.unit

FIRST_VERSION = Path(__file__).with_name("report-1.json")


def test_the_shipped_schema_is_the_codes() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema()


def test_a_report_is_valid_under_the_shipped_schema() -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(report().to_json()), schema)


def test_a_report_says_its_schema_first() -> None:
    assert next(iter(json.loads(report().to_json()).items())) == ("schema", "mlxctl.bench/1")


def test_a_report_is_read_back_whole(tmp_path: Path) -> None:
    made = report()
    (tmp_path / "a.json").write_text(made.to_json())
    assert load_report(tmp_path / "a.json") == made


def test_figures_follow_from_the_raw_runs() -> None:
    """Whoever has the report can compute it again."""
    from mlxctl.bench.build import build
    from mlxctl.bench.journal import Journal
    from mlxctl.bench.records import End
    from tests.unit.bench.samples import journal

    made = report()
    end = End(ended_at=made.ended_at or "", how="complete")
    assert build(Journal(journal().head, made.visits, made.runs, end)).results == made.results


def test_a_report_of_the_first_version_still_loads() -> None:
    assert load_report(FIRST_VERSION).results


def test_a_report_of_a_newer_version_says_so() -> None:
    with pytest.raises(UsageError, match=r"mlxctl\.bench/9") as caught:
        parse_report({"schema": "mlxctl.bench/9"}, "a.json")
    assert "newer" in (caught.value.hint or "")


@pytest.mark.parametrize("document", [{}, [], {"schema": "mlxctl.status/1"}, "text"])
def test_something_else_is_no_report(document: object) -> None:
    with pytest.raises(UsageError, match="is not a report"):
        parse_report(document, "a.json")


def test_a_broken_report_names_the_field() -> None:
    document = json.loads(report().to_json())
    document["runs"][0]["wall_s"] = "long"
    with pytest.raises(UsageError, match=r"runs\.0\.wall_s"):
        parse_report(document, "a.json")


def test_no_json_at_all_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UsageError, match="is no JSON"):
        load_report(tmp_path / "a.json")
