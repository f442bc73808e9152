"""The lines that pass between us and a node's shell, and node.sh itself on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxctl.errors import LaunchError
from mlxctl.launch import node_shell
from mlxctl.launch.processes import ProcessId, is_alive, process_id

pytestmark = pytest.mark.unit

HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print(flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def run(shell: str, *arguments: str, home: Path) -> list[str]:
    """What `shell` answers to a verb of node.sh."""
    command = [shell, *node_shell.command(*arguments)[1:]]
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home)}
    done = subprocess.run(command, input=node_shell.script(), capture_output=True, env=environment, check=True)
    return done.stdout.decode().splitlines()


@pytest.fixture(params=["dash", "bash"])
def shell(request: pytest.FixtureRequest) -> str:
    found = shutil.which(str(request.param))
    if found is None:
        pytest.skip(f"{request.param} is not here")
    return found


def test_processes_are_written_and_read_alike() -> None:
    processes = (ProcessId(12, 345.0), ProcessId(6, 7.0))
    assert node_shell.parse_processes(",".join(node_shell.shown(each) for each in processes)) == processes
    assert node_shell.parse_processes("-") == () == node_shell.parse_processes("")


@pytest.mark.parametrize("text", ["12", "a:b", "1:2:3"])
def test_what_is_no_process_is_refused(text: str) -> None:
    with pytest.raises(LaunchError, match="names no process"):
        node_shell.parse_processes(text)


def test_a_line_of_ours_is_told_from_a_greeting() -> None:
    assert node_shell.value(b"mlxctl taken yes\n", "taken") == "yes"
    assert node_shell.value(b"Welcome to mlxctl taken\n", "taken") is None


def test_any_shell_says_where_it_is_and_what_it_is(shell: str, tmp_path: Path) -> None:
    lines = run(shell, "look", home=tmp_path)
    keys = [line.split()[1] for line in lines]
    assert keys == ["system", "boot", "home", "address"] and str(tmp_path) in lines[2]


@pytest.mark.skipif(sys.platform != "linux", reason="reads a start time as Linux tells it")
def test_any_shell_ends_the_process_that_is_meant_and_no_other(shell: str, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        identity = process_id(sleeper.pid)
        later = f"{sleeper.pid}:1"
        assert run(shell, "end", "5", later, home=tmp_path) == [] and is_alive(identity)
        told = [line for line in run(shell, "start", "true", home=tmp_path) if "process" in line]
        assert len(told) == 1 and node_shell.value(told[0].encode(), "process") is not None
        ticks = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[19]
        assert run(shell, "end", "20", f"{sleeper.pid}:{ticks}", home=tmp_path) == [f"mlxctl ran {sleeper.pid}:{ticks}"]
        assert not is_alive(identity)


@pytest.mark.skipif(sys.platform != "linux", reason="ends a first thread as Linux does")
def test_any_shell_sees_a_process_alive_until_its_last_thread_has_ended(shell: str, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HEADLESS], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline()
        stat = Path(f"/proc/{child.pid}/stat")
        while not stat.read_text().rpartition(")")[2].startswith(" Z"):
            time.sleep(0.01)
        process = f"{child.pid}:{stat.read_text().rpartition(')')[2].split()[19]}"
        assert run(shell, "end", "20", process, home=tmp_path) == [f"mlxctl ran {process}"]
        assert run(shell, "end", "20", process, home=tmp_path) == []


def test_a_claim_that_is_stale_is_cleared(shell: str, tmp_path: Path) -> None:
    home = tmp_path / ".local" / "state" / "mlxctl"
    home.mkdir(parents=True)
    (home / "claim").write_text('1:1\n1700000000\n-\n{"owner": "me"}\n')
    seen = {line.split()[1] for line in run(shell, "look", home=tmp_path)}
    assert {"claim", "claim_age", "claim_workers"} <= seen and "claim_alive" not in seen
    assert run(shell, "clear", "5", home=tmp_path) == []
    assert list(home.iterdir()) == []
