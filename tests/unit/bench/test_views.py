"""The same report as a page, as a table, as text: everything is there, nothing from elsewhere."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from mlxctl.bench.build import build
from mlxctl.bench.charts import figures
from mlxctl.bench.html import to_html
from mlxctl.bench.metrics import DEFINITIONS
from mlxctl.bench.report import Report
from mlxctl.bench.tables import figure, to_csv, to_markdown
from tests.unit.bench.samples import DECODE, head, journal, report, run

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def made() -> Report:
    return report()


@pytest.fixture(scope="module")
def page(made: Report) -> str:
    return to_html(made)


@pytest.mark.parametrize("key", ["scaling", "prefill", "stages", "depth", "gaps", "knee", "arrivals", "memory"])
def test_the_page_has_every_plot(page: str, key: str) -> None:
    assert f'<section id="{key}">' in page


def test_every_plot_is_sound_and_is_described(made: Report) -> None:
    for each in figures(made):
        svg = ElementTree.fromstring(re.findall(r"<svg.*</svg>", each.body)[0])
        assert svg.attrib["aria-label"]
        assert len(list(svg.iter())) > 20


def test_points_of_a_plot_lie_within_it(made: Report) -> None:
    for each in figures(made):
        for x, y in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', each.body):
            assert 0 <= float(x) <= 560
            assert 0 <= float(y) <= 320


def test_the_page_loads_nothing(page: str) -> None:
    assert not re.findall(r"<(script|link|img|iframe)|https?://|url\(|@import", page)


def test_the_page_is_light_and_dark(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert "color-scheme: light dark" in page


def test_the_page_says_that_devices_are_simulated(page: str) -> None:
    assert '<span class="badge">simulated devices</span>' in page
    assert "SIMULATED DEVICES" in page


def test_machines_of_their_own_have_no_badge() -> None:
    assert "badge" not in to_html(report(of=head(one_host=False))).split("</style>")[1]


def test_a_wrong_text_is_red_on_the_page() -> None:
    made = journal()
    wrong = build(replace(made, runs=(*made.runs, run(DECODE, 2, 1, 0, 1.0, text="<b>a</b>"))))
    page = to_html(wrong)
    assert '<li class="error">' in page and "WRONG OUTPUT" in page
    assert 'id="equality"' in page
    assert "<b>a</b>" not in page and "&lt;b&gt;a&lt;/b&gt;" in page


def test_the_definitions_are_published(page: str, made: Report) -> None:
    markdown = to_markdown(made)
    assert all(name in page and definition in markdown for name, definition in DEFINITIONS.items())


def test_a_report_without_stage_times_has_a_page_without_that_plot() -> None:
    made = journal()
    bare = tuple(each.model_copy(update={"stages": None}) for each in made.runs)
    page = to_html(build(replace(made, runs=bare)))
    assert 'id="stages"' not in page and 'id="scaling"' in page


def test_a_report_of_nothing_still_has_a_page() -> None:
    assert "Nothing was measured" in to_html(build(replace(journal(), runs=(), visits=())))


def test_the_table_has_a_row_per_result(made: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert len(rows) == len(made.results)
    row = next(row for row in rows if (row["devices"], row["workload"], row["metric"]) == ("2", "tg16@1024", "tg_tps"))
    assert (row["depth"], row["n"], row["unit"]) == ("1024", "8", "tok/s")
    assert float(row["low"]) < float(row["mean"]) < float(row["high"])


def test_markdown_names_machine_model_and_method(made: Report) -> None:
    text = to_markdown(made)
    assert "Apple M4" in text and "100 GB/s memory bandwidth (measured)" in text
    assert "launches with 1, 2, 2, 1 devices" in text
    assert "commit c0ffee" in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04213, "0.0421"), (3.1415, "3.14"), (217.6, "218"), (0.0, "0"), (12.0, "12.0")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert figure(value) == text
