"""Which clusters there are on this machine and which one a verb means. Used by chat, status and logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mlxctl import paths
from mlxctl.chat.client import ChatClient
from mlxctl.errors import NotRunning
from mlxctl.launch.state import PRIVATE_PREFIX, ClusterState, list_clusters, living, read_state
from mlxctl.profile import Profile

Life = Literal["starting", "up", "gone"]


@dataclass(frozen=True, slots=True)
class Known:
    """A cluster that has a state file. `gone`: its coordinator died without taking it down."""

    state: ClusterState
    life: Life

    @property
    def name(self) -> str:
        return self.state.name

    def status(self) -> dict[str, Any]:
        """Its status document. Raises NotRunning, AuthenticationError, TimedOut."""
        try:
            profile = Profile.from_json(paths.profile_file(self.name).read_text(encoding="utf-8"))
        except FileNotFoundError:  # it was taken down this very moment
            raise not_running(self.name, None) from None
        with ChatClient(f"{self.state.api_url}/v1", profile.api.read_key(), profile.api.key_hint) as client:
            return client.status()


def known(name: str) -> Known | None:
    """The cluster `name`, None if it left no state."""
    state = read_state(name)
    if state is None:
        return None
    if state.coordinator not in living(state):
        return Known(state, "gone")
    return Known(state, "starting" if state.phase == "starting" else "up")


def all_known() -> list[Known]:
    """Every cluster with a state file, by name."""
    found = [known(name) for name in list_clusters()]
    return [cluster for cluster in found if cluster is not None]


def lasting() -> list[Known]:
    """Clusters that were brought up to stay, running or not: all but the private ones of other commands."""
    return [cluster for cluster in all_known() if not cluster.name.startswith(PRIVATE_PREFIX)]


def running_names() -> list[str]:
    """Lasting clusters that serve or are about to."""
    return [cluster.name for cluster in lasting() if cluster.life != "gone"]


def not_running(name: str | None, cluster: Known | None) -> NotRunning:
    """Why there is nothing to ask: never there, or its coordinator died."""
    if cluster is not None and (unreached := cluster.state.unreached_nodes):
        what = (
            f"{cluster.name} is down, but {', '.join(unreached)} could not be reached to see that nothing is left there"
        )
        return NotRunning(what, hint=f"mlxctl down {cluster.name}")
    if cluster is not None:
        return NotRunning(f"the coordinator of {cluster.name} is gone", hint=f"mlxctl down {cluster.name}")
    message = f"no cluster named {name} is running" if name else "no cluster is running"
    running = ", ".join(running_names()) if name else ""
    return NotRunning(message, hint=f"running: {running}" if running else "mlxctl up")
