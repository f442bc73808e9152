"""Takes a cluster down and verifies that nothing of it is left, with its coordinator's help or without."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from mlxctl import paths
from mlxctl.errors import LaunchError
from mlxctl.launch.node_teardown import NodeReport, clean_nodes
from mlxctl.launch.processes import ProcessId, end, is_alive
from mlxctl.launch.state import ClusterState, living, read_state, remove_state, write_state
from mlxctl.profile import Profile

ASK_TIMEOUT_S = 5.0
END_MARGIN_S = 20.0  # beyond the drain, for a coordinator that is taking its cluster down
KILL_GRACE_S = 2.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class TeardownReport:
    """What `down` found: whether there was such a cluster, whether anything ran, whether the coordinator did the work,
    who had to be killed here, and what each machine reached over SSH turned out to be.
    """

    name: str
    known: bool
    ran: bool = False
    by_coordinator: bool = False
    killed: tuple[int, ...] = ()
    nodes: tuple[NodeReport, ...] = ()
    took_s: float = 0.0

    @property
    def unclean(self) -> tuple[NodeReport, ...]:
        """Machines of which nobody knows whether they are clean; they are remembered."""
        return tuple(report for report in self.nodes if report.problem is not None)


def take_down(name: str, drain_s: float, *, force: bool = False) -> TeardownReport:
    """Ask, then TERM, then KILL, then verify, here and on every node. Raises LaunchError naming what could not be ended
    here.
    """
    began_s = time.monotonic()
    state = read_state(name)
    if state is None:
        return TeardownReport(name, known=False)
    profile_json = _read(paths.profile_file(name))  # before it goes with the coordinator
    asked = not force and state.coordinator in living(state) and _ask_to_stop(state, drain_s)
    if asked:
        _wait_for_end(state.coordinator, drain_s + END_MARGIN_S)
    left = living(state)
    survivors = end(left, 0.0 if force else KILL_GRACE_S)
    if survivors:
        pids = ", ".join(str(process.pid) for process in survivors)
        raise LaunchError(f"processes of {name} cannot be ended: {pids}", hint=f"kill -9 {pids.replace(',', '')}")
    nodes = clean_nodes(Profile.from_json(profile_json), state, force=force) if profile_json else ()
    _remember(state, [report.node for report in nodes if report.problem is not None])
    paths.remove_control_socket(name)
    ran = asked or bool(left) or any(report.ended for report in nodes)
    return TeardownReport(name, True, ran, asked, tuple(p.pid for p in left), nodes, time.monotonic() - began_s)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _remember(state: ClusterState, unreached: Sequence[str]) -> None:
    """Forget the cluster, but for the nodes that were not reached."""
    if not unreached:
        return remove_state(state.name)
    workers = tuple(worker for worker in state.workers if worker.node in unreached)
    write_state(replace(state, phase="failed", workers=workers, unreached_nodes=tuple(unreached)))


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
