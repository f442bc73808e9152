"""Logs are stamped in UTC, keep their tail at hand and rotate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlxctl.launch import log_files
from mlxctl.launch.log_files import TAIL_LINES, NodeLog

pytestmark = pytest.mark.unit


def test_every_line_carries_the_time_and_the_last_ones_are_remembered(tmp_path: Path) -> None:
    log = NodeLog(tmp_path / "w0.log")
    for number in range(TAIL_LINES + 3):
        log.write(f"line {number} with 100 % and {{braces}}")
    log.close()
    lines = (tmp_path / "w0.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z line \d+ with 100 % and {braces}$", x) for x in lines)
    assert len(lines) == TAIL_LINES + 3
    assert [line.split()[1] for line in log.tail] == [str(number) for number in range(3, TAIL_LINES + 3)]


def test_a_log_that_grows_too_large_is_rotated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "MAX_FILE_BYTES", 400)
    log = NodeLog(tmp_path / "w0.log")
    for number in range(40):
        log.write(f"line {number}")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w0.log", "w0.log.1"]
    assert all(path.stat().st_size <= 400 for path in tmp_path.iterdir())
