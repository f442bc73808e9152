"""Logs are stamped in UTC, keep their tail at hand and rotate."""

from __future__ import annotations

import logging
import os
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


def test_stderr_goes_on_into_the_newest_file_after_every_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "MAX_FILE_BYTES", 200)
    before = os.dup(log_files.STDERR)
    handler = log_files.StderrFollows(tmp_path / "coordinator.log")
    try:
        for number in range(20):
            handler.handle(logging.LogRecord("x", logging.INFO, "", 0, f"line {number}", None, None))
        os.write(log_files.STDERR, b"a library speaks\n")
    finally:
        os.dup2(before, log_files.STDERR)
        os.close(before)
        handler.close()
    assert (tmp_path / "coordinator.log").read_text(encoding="utf-8").endswith("line 19\na library speaks\n")
