"""Journals become reports that can be believed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxctl.bench.build import build
from mlxctl.bench.records import Visit, Workload
from mlxctl.bench.report import Report, Scaling
from tests.unit.bench.samples import DECODE, FOUR, TWO, head, journal, report, run, span, steady

pytestmark = pytest.mark.unit


def scaling(found: Report, workload: str) -> Scaling:
    return next(each for each in found.scaling if each.workload == workload)


def sentences(found: Report, tone: str) -> str:
    return " ".join(each.text for each in found.verdicts if each.tone == tone)


def test_a_result_keeps_the_values_of_its_runs() -> None:
    result = report().result(1, "tg16@64", "tg_tps")
    assert result is not None
    assert len(result.of_runs) == 8
    assert result.summary.mean == pytest.approx(15 / 0.75, rel=0.05)  # 15 tokens after the first in 3/4 of a second


def test_warm_up_runs_do_not_count() -> None:
    made = journal()
    slow = run(DECODE, 1, 0, 1_000_000, 100.0).model_copy(update={"warm_up": True})
    found = build(replace(made, runs=(*made.runs, slow))).result(1, "tg16@64", "tg_tps")
    assert found is not None and found.summary.n == 8


def test_a_run_with_a_failed_request_does_not_count_and_is_told() -> None:
    made = journal()
    broken = made.runs[0].answers[0].model_copy(update={"error": "node node2: gone"})
    runs = (made.runs[0].model_copy(update={"answers": (broken,)}), *made.runs[1:])
    found = build(replace(made, runs=runs))
    result = found.result(1, "pp128", "pp_tps")
    assert result is not None and result.summary.n == 7
    assert "node node2: gone" in sentences(found, "warning")


def test_speed_up_is_against_the_fewest_devices_that_fit() -> None:
    found = scaling(report(counts=(2, 4)), "c4")
    assert (found.baseline, found.devices) == (2, 4)
    assert found.speed_up == pytest.approx(2, rel=0.05)
    assert found.interval is not None and found.interval.low < 2 < found.interval.high


def test_karp_and_flatt_see_what_does_not_scale() -> None:
    def half_serial(workload: Workload, devices: int) -> float:
        return 0.5 + 0.5 / devices

    found = scaling(report(speed=half_serial), "c4")
    assert found.serial_fraction == pytest.approx(0.5, abs=0.06)


def test_the_law_compares_equal_totals_of_sequences() -> None:
    """t(4) / t(2) from one device's own runs: here a step of 4 takes 1.5 times one of 2."""

    def batched(workload: Workload, devices: int) -> float:
        return {"c2": 2.0, "c4": 3.0}.get(workload.id, 1.0)

    assert scaling(report(speed=batched, noise=1e-6), "c4").law == pytest.approx(1.5, rel=0.01)


def test_the_ceiling_of_one_stream_stands_beside_its_speed() -> None:
    assert "cannot speed up one stream" in sentences(report(), "plain")


def test_workers_on_one_machine_are_called_simulated() -> None:
    found = report()
    assert found.simulated_devices
    assert "SIMULATED DEVICES: 2 workers are processes of one machine (Apple M4" in sentences(found, "warning")


def test_machines_of_their_own_are_not_called_simulated() -> None:
    assert not report(of=head(one_host=False)).simulated_devices


def test_a_count_that_does_not_fit_is_a_row_that_says_so() -> None:
    made = journal(counts=(2, 4))
    unfit = Visit(number=9, devices=1, bring_up_s=None, fits=False, fault="needs 20 GiB")
    found = build(replace(made, visits=(*made.visits, unfit)))
    assert "1 device cannot hold the model: needs 20 GiB" in sentences(found, "plain")
    assert found.counts == (2, 4)


def test_capacity_is_told() -> None:
    assert "1 device can hold 8 sequences" in sentences(report(), "plain")


def test_the_share_of_the_roofline_and_the_prediction_stand_beside_the_figure() -> None:
    found = next(each for each in report().against if each.workload == "tg16@64" and each.devices == 1)
    assert found.predicted == 20.0
    assert found.roofline_share == pytest.approx(0.5, rel=0.05)


def test_a_slow_stage_shows_up_as_its_computing() -> None:
    made = journal()
    slow = {each.id for each in made.head.workloads}
    runs = [
        each.model_copy(update={"stages": (span(0, each.wall_s, 0.1), span(1, each.wall_s, 0.85 * each.wall_s))})
        for each in made.runs
        if each.workload in slow and each.devices == 2
    ]
    found = build(replace(made, runs=tuple(runs)))
    limits = {each.limiter for each in found.against if each.devices == 2}
    assert limits == {"computing on node2"}


def test_a_slow_link_shows_up_as_wire_time() -> None:
    made = journal(speed=lambda workload, devices: steady(workload, devices) * 4)
    runs = [
        each.model_copy(update={"stages": (span(0, each.wall_s, 0.1), span(1, each.wall_s, 0.1))})
        for each in made.runs
        if each.devices == 2
    ]
    found = build(replace(made, runs=tuple(runs)))
    assert {each.limiter for each in found.against} == {"the wire between the stages"}
    breakdown = next(each for each in found.breakdowns if each.workload == "tg16@64")
    assert breakdown.between_s / breakdown.wall_s > 0.9


@pytest.mark.parametrize(
    ("share", "limit"), [(0.7, "the wire between the stages"), (0.1, "outside the stages (HTTP, scheduling)")]
)
def test_the_wire_is_told_from_http_where_steps_are_logged(share: float, limit: str) -> None:
    made = journal()
    runs = [
        each.model_copy(
            update={
                "stages": (span(0, each.wall_s, 0.1 * each.wall_s), span(1, each.wall_s, 0.1 * each.wall_s)),
                "wire_s": share * each.wall_s,
            }
        )
        for each in made.runs
        if each.devices == 2
    ]
    found = build(replace(made, runs=tuple(runs)))
    assert limit in {each.limiter for each in found.against if each.workload == "tg16@64"}
    said = [each.text for each in found.verdicts if each.text.startswith("Of one stream's time")]
    assert said and f"{share:.0%} is the wire between them" in said[0]


def test_equal_texts_are_called_equal() -> None:
    found = report()
    assert found.equality.compared > 0 and not found.equality.differences
    assert not found.has_error


def test_a_wrong_text_in_float32_is_an_error() -> None:
    made = journal()
    wrong = run(DECODE, 2, 1, 0, 1.0, text="a b d")
    found = build(replace(made, runs=(*made.runs, wrong)))
    assert found.has_error
    assert "WRONG OUTPUT" in sentences(found, "error")
    assert found.equality.differences[0].at_character == 4


def test_another_text_in_bfloat16_is_shown_as_a_tie() -> None:
    made = journal(of=head(dtype="bfloat16"))
    found = build(replace(made, runs=(*made.runs, run(DECODE, 2, 1, 0, 1.0, text="a b d"))))
    assert not found.has_error
    assert "may turn a tie" in sentences(found, "warning")


def test_streams_that_ran_together_are_not_judged_by_their_texts() -> None:
    made = journal()
    found = build(replace(made, runs=(*made.runs, run(FOUR, 2, 1, 0, 1.0, text="other"))))
    assert not found.equality.differences


def test_a_bench_that_crashed_still_makes_a_report() -> None:
    made = journal()
    found = build(replace(made, runs=made.runs[:7], end=None))
    assert found.how_it_ended == "crashed"
    assert len(found.runs) == 7


def test_a_visit_counts_as_it_was_last_noted() -> None:
    made = journal()
    again = made.visits[0].model_copy(update={"bring_up_s": 9.0})
    found = build(replace(made, visits=(*made.visits, again)))
    assert [each.bring_up_s for each in found.visits] == [9.0, 1.0, 1.0, 1.0]


def test_nothing_measured_is_an_error() -> None:
    assert build(replace(journal(), runs=())).has_error


def test_answers_that_ended_early_are_told() -> None:
    made = journal()
    short = made.runs[0].answers[0].model_copy(update={"completion_tokens": 1, "finish_reason": "stop"})
    runs = (made.runs[0].model_copy(update={"answers": (short,)}), *made.runs[1:])
    assert "ended before the length" in sentences(build(replace(made, runs=runs)), "plain")


def test_inter_token_latencies_are_pooled_and_tails_need_many() -> None:
    spread = next(each for each in report().inter_token if each.workload == TWO.id)
    assert spread.n == 8 * 2 * 15
    assert spread.p95_ms is not None and spread.p99_ms is None


def test_prompts_that_a_server_has_met_before_are_told() -> None:
    made = journal()
    known = made.runs[0].answers[0].model_copy(update={"cached_tokens": 127})
    runs = (made.runs[0].model_copy(update={"answers": (known,)}), *made.runs[1:])
    assert "Take another --seed" in sentences(build(replace(made, runs=runs)), "warning")
