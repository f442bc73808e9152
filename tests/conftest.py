"""Every test has a state folder of ours to itself, and leaves no process, thread or temporary file of ours behind."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlxctl import paths

GRACE_S = 10.0  # the promise: after the end of anything, nothing is left within 10 s


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """MLXCTL_HOME of this test process: what carries it in its environment is ours."""
    folder = tmp_path_factory.mktemp("home")
    before = {name: value for name, value in os.environ.items() if name.startswith("MLXCTL_")}
    for name in before:
        del os.environ[name]
    os.environ[paths.HOME_VARIABLE] = str(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks a hub that is not its own
    yield folder
    del os.environ[paths.HOME_VARIABLE], os.environ["HF_HUB_OFFLINE"]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, home: Path) -> Iterator[None]:
    """Fails a test after which more of ours is there than before; waits for what is on its way out."""
    before = traces(home)
    yield
    until_s = time.monotonic() + GRACE_S
    while (left := traces(home) - before) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not left, f"left behind by {request.node.name}: {sorted(left)}"


def traces(home: Path) -> set[str]:
    """Our processes, threads and temporary files, as lines to read."""
    return our_processes(home) | our_threads() | our_sockets(home)


def our_processes(home: Path) -> set[str]:
    """Every other process with `home` in its environment."""
    found = set()
    for process in psutil.process_iter(["environ", "cmdline", "status"]):
        environ = process.info["environ"] or {}
        if process.pid == os.getpid() or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        if environ.get(paths.HOME_VARIABLE) == str(home):
            found.add(f"pid {process.pid}: {' '.join(process.info['cmdline'] or [])}")
    return found


def our_sockets(home: Path) -> set[str]:
    """Control sockets, and their folders under /tmp, of clusters of this home."""
    sockets = [paths.control_socket(folder.name) for folder in (home / "clusters").glob("*")]
    foreign = {socket.parent for socket in sockets if not socket.is_relative_to(home) and socket.parent.exists()}
    return {str(path) for path in (*foreign, *(socket for socket in sockets if socket.exists()))}


def our_threads() -> set[str]:
    """Threads that would keep the interpreter alive, but for those that belong to libraries' pools."""
    pools = ("asyncio_", "AnyIO", "ThreadPoolExecutor", "pytest_timeout")
    return {
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread() and not thread.name.startswith(pools)
    }


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State and logs in a folder of this test's own."""
    monkeypatch.setenv(paths.HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
