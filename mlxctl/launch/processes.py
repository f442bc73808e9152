"""Processes by pid and start time, and ports: who lives, how to end them for sure. Called by launch and coordinator."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlxctl.errors import LaunchError

KILL_WAIT_S = 5.0
POLL_S = 0.01

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process and no other: `start_time` tells it from a later one with its pid.

    Seconds since boot on Linux (which setting the clock does not change), Unix time elsewhere: for equality only.
    """

    pid: int
    start_time: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the system says of a pid."""

    start_time: float
    is_zombie: bool


def process_id(pid: int) -> ProcessId:
    """The process that has `pid` now, even a zombie nobody has waited for. Raises LaunchError."""
    sighting = _look_up(pid)
    if sighting is None:
        raise LaunchError(f"process {pid} is gone")
    return ProcessId(pid, sighting.start_time)


def current_process() -> ProcessId:
    """This process."""
    return process_id(os.getpid())


def is_alive(process: ProcessId) -> bool:
    """Whether it still runs. A zombie is dead; so is one whose pid another process has now."""
    sighting = _look_up(process.pid)
    return sighting is not None and sighting.start_time == process.start_time and not sighting.is_zombie


def end(processes: Iterable[ProcessId], grace_s: float) -> tuple[ProcessId, ...]:
    """TERM, wait `grace_s`, KILL, verify; the ones that are alive all the same (not ours, or stuck in the kernel)."""
    alive = _signalled([process for process in processes if is_alive(process)], signal.SIGTERM)
    alive = _still_alive_after(alive, grace_s)
    alive = _signalled(alive, signal.SIGKILL)
    return tuple(_still_alive_after(alive, KILL_WAIT_S))


def boot_id() -> str:
    """Lower-case UUID of the system's current run: processes recorded under another one are gone."""
    if sys.platform == "darwin":
        # Unverified on a Mac.
        answer = subprocess.run(["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False)
        return parse_boot_id(answer.stdout)
    return parse_boot_id(Path("/proc/sys/kernel/random/boot_id").read_text())


def parse_boot_id(text: str) -> str:
    """The UUID in what the system prints. Raises LaunchError if there is none."""
    match = _UUID.search(text)
    if match is None:
        raise LaunchError(f"the system tells no boot id: {text[:80]!r}")
    return match[0].lower()


def port_is_free(host: str, port: int) -> bool:
    """Whether this machine can listen on `host`:`port` now. Raises LaunchError for a host that is not this machine."""
    try:
        with _listening(host, port):
            return True
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise LaunchError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def free_ports(host: str, count: int) -> tuple[int, ...]:
    """`count` different ports that were free a moment ago. Raises LaunchError for a host that is not this machine."""
    try:
        with ExitStack() as stack:
            return tuple(stack.enter_context(_listening(host, 0)).getsockname()[1] for _ in range(count))
    except OSError as error:
        raise LaunchError(f"cannot listen on {host}: {error.strerror or error}") from error


def parse_stat(text: str, ticks_per_s: int) -> Sighting:
    """A process from its `/proc/<pid>/stat`; its name (field 2, in parentheses) may hold anything.

    No zombie before its last thread has ended, which may hold ports and memory for a second after the first one.
    """
    fields = text[text.rindex(")") + 1 :].split()
    return Sighting(int(fields[19]) / ticks_per_s, fields[0] in ("Z", "X", "x") and int(fields[17]) <= 1)


def look_up_by_psutil(pid: int) -> Sighting | None:
    """As `_look_up`, where there is no /proc."""
    try:
        process = psutil.Process(pid)
        return Sighting(process.create_time(), process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # also what psutil raises for some zombies
        return None


def _look_up_in_proc(pid: int) -> Sighting | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return parse_stat(text, os.sysconf("SC_CLK_TCK"))


_look_up: Callable[[int], Sighting | None] = _look_up_in_proc if sys.platform == "linux" else look_up_by_psutil


def _signalled(processes: Sequence[ProcessId], number: signal.Signals) -> list[ProcessId]:
    for process in processes:
        if is_alive(process):  # right before: the pid may be another's by now
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)
    return list(processes)


def _still_alive_after(processes: Sequence[ProcessId], wait_s: float) -> list[ProcessId]:
    until_s = time.monotonic() + wait_s
    while (alive := [process for process in processes if is_alive(process)]) and time.monotonic() < until_s:
        time.sleep(POLL_S)
    return alive


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens. SO_REUSEADDR: a port with connections in TIME_WAIT is free."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener
