"""Takes a cluster down and verifies that nothing of it is left, with its coordinator's help or without."""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx2

from mlxctl import paths
from mlxctl.errors import LaunchError
from mlxctl.launch.processes import ProcessId, end, is_alive
from mlxctl.launch.state import ClusterState, living, read_state, remove_state

ASK_TIMEOUT_S = 5.0
END_MARGIN_S = 10.0  # beyond the drain, for a coordinator that is taking its cluster down
KILL_GRACE_S = 2.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class TeardownReport:
    """What `down` found: whether there was such a cluster, whether anything ran, whether the coordinator did the work,
    who had to be killed.
    """

    name: str
    known: bool
    ran: bool = False
    by_coordinator: bool = False
    killed: tuple[int, ...] = ()
    took_s: float = 0.0


def take_down(name: str, drain_s: float, *, force: bool = False) -> TeardownReport:
    """Ask, then TERM, then KILL, then verify. Raises LaunchError naming what could not be ended."""
    began_s = time.monotonic()
    state = read_state(name)
    if state is None:
        return TeardownReport(name, known=False)
    asked = not force and state.coordinator in living(state) and _ask_to_stop(state, drain_s)
    if asked:
        _wait_for_end(state.coordinator, drain_s + END_MARGIN_S)
    left = living(state)
    survivors = end(left, 0.0 if force else KILL_GRACE_S)
    if survivors:
        pids = ", ".join(str(process.pid) for process in survivors)
        raise LaunchError(f"processes of {name} cannot be ended: {pids}", hint=f"kill -9 {pids.replace(',', '')}")
    remove_state(name)
    paths.remove_control_socket(name)
    ran = asked or bool(left)
    return TeardownReport(name, True, ran, asked, tuple(p.pid for p in left), time.monotonic() - began_s)


def _ask_to_stop(state: ClusterState, drain_s: float) -> bool:
    """Whether the coordinator has been told: on its socket, or, while it is coming up, by a signal."""
    if state.phase == "starting":
        return not end([state.coordinator], END_MARGIN_S)
    transport = httpx2.HTTPTransport(uds=str(paths.control_socket(state.name)))
    try:
        with httpx2.Client(transport=transport, timeout=ASK_TIMEOUT_S) as client:
            client.post("http://control/stop", json={"drain_s": drain_s}).raise_for_status()
    except httpx2.HTTPError:
        return False
    return True


def _wait_for_end(process: ProcessId, timeout_s: float) -> None:
    until_s = time.monotonic() + timeout_s
    while is_alive(process) and time.monotonic() < until_s:
        time.sleep(POLL_S)
