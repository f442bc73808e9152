"""Differences of the workers' own clocks."""

from __future__ import annotations

from typing import Any

import pytest

from mlxctl.bench.stage_times import devices, spans, wire_s

pytestmark = pytest.mark.unit


def status(pid: int = 7, **profile: float) -> dict[str, Any]:
    """A status document of one stage with this profile."""
    known = {"steps": 0, "compute_s": 0.0, "graph_s": 0.0, "serialize_s": 0.0, "receive_s": 0.0, "wait_s": 0.0}
    stage = {"stage": 0, "node": "a", "host": "localhost", "pid": pid, "layers": [0, 8], "weight_bytes": 5}
    return {"stages": [{**stage, "kv_bytes": 6, "peak_bytes": 7, "profile": {**known, "sent_bytes": 0, **profile}}]}


def test_a_span_is_what_passed_between_two_readings() -> None:
    after = status(steps=10, compute_s=0.5, graph_s=0.2, serialize_s=0.05, receive_s=0.1, wait_s=0.5, sent_bytes=99)
    (span,) = spans(status(), after, 1.0) or ()
    assert (span.steps, span.compute_s, span.graph_s, span.wire_s, span.sent_bytes) == (10, 0.5, 0.2, 0.1, 99)
    assert span.wait_s == pytest.approx(0.4)


def test_time_outside_the_run_is_not_called_waiting() -> None:
    (span,) = spans(status(), status(compute_s=0.5, wait_s=2.5), 1.0) or ()
    assert span.wait_s == pytest.approx(0.5)
    assert span.residual_s == pytest.approx(0.0)


def test_parts_and_residual_are_the_whole() -> None:
    (span,) = spans(status(), status(compute_s=0.3, wait_s=0.4, serialize_s=0.1), 1.0) or ()
    assert span.compute_s + span.serialize_s + span.wire_s + span.wait_s + span.residual_s == pytest.approx(1.0)


def test_a_worker_that_was_replaced_has_no_span() -> None:
    assert spans(status(), status(pid=8), 1.0) is None


def test_a_server_without_a_profile_has_no_spans() -> None:
    assert spans({"stages": [{"pid": 1}]}, {"stages": [{"pid": 1}]}, 1.0) is None
    assert spans(None, None, 1.0) is None


def test_devices_are_stages_with_their_memory() -> None:
    (device,) = devices(status())
    assert (device.node, device.layers, device.peak_bytes, device.rss_bytes) == ("a", (0, 8), 7, None)


def test_a_foreign_server_has_no_devices() -> None:
    assert devices(None) == ()


def test_the_wire_is_what_steps_took_beyond_computing() -> None:
    before, after = ({"steps": {"steps": steps, "wire_s": wire}} for steps, wire in ((3, 0.25), (9, 0.75)))
    assert wire_s(before, after) == pytest.approx(0.5)


def test_without_a_log_of_steps_or_with_a_new_one_the_wire_is_unknown() -> None:
    logged = {"steps": {"steps": 3, "wire_s": 0.25}}
    assert wire_s(None, logged) is None
    assert wire_s(status(), logged) is None
    assert wire_s(logged, {"steps": {"steps": 1, "wire_s": 0.1}}) is None
