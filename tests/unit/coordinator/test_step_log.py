"""What becomes of the times that a step brings back."""

from __future__ import annotations

import pytest

from mlxctl.coordinator.step_log import KEPT_STEPS, LoggedStep, StepLog
from mlxctl.rpc import shard_pb2

pytestmark = pytest.mark.unit


def spent(eval_us: int, queue_us: int = 0) -> shard_pb2.StageTime:
    """2 ms of graph, 1 ms of serializing, no waiting."""
    compute_us = 2000 + eval_us
    return shard_pb2.StageTime(
        compute_us=compute_us, queue_us=queue_us, graph_us=2000, eval_us=eval_us, serialize_us=1000
    )


def test_the_wire_is_what_no_stage_accounts_for() -> None:
    step = LoggedStep.of(1, 1, 0.040, [spent(10_000, queue_us=3000), spent(15_000)])
    assert step.compute_s == pytest.approx(0.029)
    assert step.wire_s == pytest.approx(0.040 - 0.029 - 0.003 - 0.002)


def test_a_stages_parts_are_medians_of_the_decode_steps_kept() -> None:
    log = StepLog()
    assert log.stage_medians_s(0) is None
    for number, eval_us in enumerate((10_000, 30_000, 20_000)):
        log.sent(1, number, 1, 1)
        log.came_back(1, number, [spent(eval_us), spent(5000)])
    log.sent(2, 0, 1, 512)
    log.came_back(2, 0, [spent(900_000), spent(900_000)])
    first, second = log.stage_medians_s(0), log.stage_medians_s(1)
    assert first is not None and second is not None and log.stage_medians_s(2) is None
    assert (first["eval_s"], second["eval_s"]) == pytest.approx((0.020, 0.005))
    assert first["graph_s"] == pytest.approx(0.002)


def test_only_the_last_steps_are_kept_and_all_are_counted() -> None:
    log = StepLog()
    for number in range(KEPT_STEPS + 5):
        log.sent(1, number, 1, 1)
        log.came_back(1, number, [spent(1000)])
    assert (len(log.last), log.steps) == (KEPT_STEPS, KEPT_STEPS + 5)


def test_a_result_that_was_not_sent_is_not_logged() -> None:
    log = StepLog()
    log.came_back(1, 0, [spent(1000)])
    assert log.steps == 0
