"""A Mac stays awake while it serves. `caffeinate` itself exists on Macs only; a stand-in on PATH really runs here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlxctl.awake import PROGRAM, awake_command, kept_awake

pytestmark = pytest.mark.unit

STAND_IN = f"""#!{sys.executable}
import os, pathlib, sys, time
folder = pathlib.Path(__file__).parent
(folder / "started.part").write_text(" ".join([str(os.getpid()), *sys.argv[1:]]))
(folder / "started.part").rename(folder / "started")
watched = int(sys.argv[sys.argv.index("-w") + 1])
while True:
    os.kill(watched, 0)
    time.sleep(0.01)
"""
WAIT_S = 30.0


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a `caffeinate` that is found first, waits for a process as the real one does and tells its pid."""
    program = tmp_path / PROGRAM
    program.write_text(STAND_IN, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def started(folder: Path) -> tuple[psutil.Process, list[str]]:
    """The stand-in's process and arguments, once it runs."""
    until_s = time.monotonic() + WAIT_S
    while not (folder / "started").exists():
        assert time.monotonic() < until_s, "it was never started"
        time.sleep(0.01)
    pid, *arguments = (folder / "started").read_text(encoding="utf-8").split()
    return psutil.Process(int(pid)), arguments


def test_a_mac_is_kept_from_sleeping_while_the_process_lives(stand_in: Path) -> None:
    command = awake_command("darwin", 4711, str(stand_in))
    assert command == (str(stand_in / PROGRAM), "-i", "-m", "-s", "-w", "4711")


def test_other_systems_and_macs_without_the_program_are_left_alone(stand_in: Path, tmp_path: Path) -> None:
    assert awake_command("linux", 4711, str(stand_in)) is None
    assert awake_command("darwin", 4711, str(tmp_path / "empty")) is None


def test_it_runs_as_long_as_the_context(stand_in: Path) -> None:
    with kept_awake("darwin"):
        process, arguments = started(stand_in)
        assert process.is_running() and arguments == ["-i", "-m", "-s", "-w", str(os.getpid())]
    assert not process.is_running()


def test_a_program_that_ends_by_itself_does_no_harm(stand_in: Path) -> None:
    with kept_awake("darwin"):
        process, _ = started(stand_in)
        process.kill()


def test_a_program_that_cannot_be_run_is_a_line_in_the_log(stand_in: Path, caplog: pytest.LogCaptureFixture) -> None:
    (stand_in / PROGRAM).write_text("#!/nowhere\n", encoding="utf-8")
    with kept_awake("darwin"):
        pass
    assert "may fall asleep" in caplog.text


def test_it_does_not_outlive_a_killed_coordinator(stand_in: Path) -> None:
    code = "import time, mlxctl.awake as a\nwith a.kept_awake('darwin'): time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", code]) as coordinator:
        process, _ = started(stand_in)
        coordinator.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([process], timeout=WAIT_S)[1] == []
