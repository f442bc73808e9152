"""Progress of a bring-up, with a terminal and without."""

from __future__ import annotations

import pytest

from mlxctl.cli.progress import LiveProgress, PlainProgress, progress
from mlxctl.launch.events import PhaseEvent

pytestmark = pytest.mark.unit

EVENTS = (
    PhaseEvent("Load", "running"),
    PhaseEvent("Load", "running", "w0", "1 of 4 layers", 0.25),
    PhaseEvent("Load", "done", "w0", "warm", 1.0),
    PhaseEvent("Load", "failed", "w1", "gone"),
    PhaseEvent("Load", "done"),
)


def test_without_a_terminal_each_phase_and_each_finished_node_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for event in EVENTS:
        PlainProgress()(event)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["Load …", "Load [w0]: warm", "Load [w1] failed"]
    assert captured.out == ""


def test_on_a_terminal_the_running_phase_shows_a_bar_per_node() -> None:
    live = LiveProgress()
    for event in EVENTS[:2]:
        live(event)
    texts = [str(getattr(line, "text", line)) for line in live._lines()]
    assert "Load" in texts[0]
    assert "w0" in texts[1] and "━" in texts[1] and "1 of 4 layers" in texts[1]


def test_in_a_pipe_progress_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as on_event:
        on_event(EVENTS[0])
    assert capsys.readouterr().err == "Load …\n"
