"""Metrics are what is published of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.bench.metrics import BY_NAME, DEFINITIONS, METRICS, main_metric, values
from mlxctl.bench.records import Run
from tests.unit.bench.samples import DECODE, FOUR, PREFILL, run

pytestmark = pytest.mark.unit

README = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")


def figure(made: Run, name: str) -> float | None:
    return BY_NAME[name].of(made)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_readme_publishes_every_definition(name: str) -> None:
    assert f"- **{name}**: {DEFINITIONS[name]}." in README


def test_prompt_speed_is_prompt_tokens_by_time_to_first_token() -> None:
    assert figure(run(PREFILL, 1, 0, 0, 2.0), "pp_tps") == pytest.approx(128 / 0.5)


def test_decode_speed_leaves_the_first_token_out() -> None:
    assert figure(run(DECODE, 1, 0, 0, 2.0), "tg_tps") == pytest.approx(15 / 1.5)


def test_the_aggregate_is_all_tokens_by_the_wall() -> None:
    assert figure(run(FOUR, 1, 0, 0, 2.0), "aggregate_tps") == pytest.approx(4 * 16 / 2.0)


def test_speed_per_user_is_the_mean_of_the_requests() -> None:
    assert figure(run(FOUR, 1, 0, 0, 2.0), "user_tps") == pytest.approx(15 / 1.5)


def test_one_token_has_no_time_per_output_token() -> None:
    answer = run(DECODE, 1, 0, 0, 2.0).answers[0].model_copy(update={"completion_tokens": 1})
    assert answer.tpot_s is None


def test_values_come_with_their_launches() -> None:
    runs = [run(DECODE, 1, visit, 0, 2.0) for visit in (0, 3)]
    assert values(runs, main_metric(DECODE)) == ([10.0, 10.0], [0, 3])


def test_every_kind_has_a_metric_that_decides() -> None:
    assert all(metrics for metrics in METRICS.values())
