"""The Python API: `mlxctl.Cluster`. Used by notebooks, by `chat` and `bench` for private clusters, and by `mlxctl up`.

    with mlxctl.Cluster.up("profiles/local.yaml") as cluster:
        print(cluster.chat("Who are you?"))

Everything here blocks and starts no event loop, so that it works inside a running one (Jupyter).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Self

from mlxctl.chat.client import ChatClient
from mlxctl.errors import ClusterBusy, LaunchError, NotRunning
from mlxctl.launch.daemon_process import DaemonOrder, DaemonProcess
from mlxctl.launch.events import PhaseEvent
from mlxctl.launch.state import PRIVATE_PREFIX, ClusterState, list_clusters, living, read_state
from mlxctl.launch.teardown import TeardownReport, take_down
from mlxctl.paths import make_cluster_dir, profile_file
from mlxctl.profile import Profile, load_profile

DRAIN_S = 5.0


def _ignore(event: PhaseEvent) -> None:
    """Nobody watches."""


class Cluster:
    """A running cluster. As a context manager it is taken down at the end."""

    def __init__(self, name: str, url: str, profile: Profile, daemon: DaemonProcess | None, took_s: float) -> None:
        self.name = name
        self.base_url = f"{url}/v1"
        self.profile = profile
        self.api_key = profile.api.read_key()
        self.took_s = took_s
        self._daemon = daemon

    @classmethod
    def up(
        cls,
        profile: Profile | Path | str | None = None,
        *,
        private: bool = True,
        attached: bool = False,
        overrides: Mapping[str, Any] | None = None,
        on_event: Callable[[PhaseEvent], None] = _ignore,
        timeout_s: float | None = None,
        accept_new_host_keys: bool = False,
        wheelhouse: Path | None = None,
    ) -> Self:
        """Bring up the cluster of `profile` (default: two workers on this machine) and wait until it serves.

        A private cluster has a name and ports of its own and ends with this process; another one goes on by itself,
        under the profile's name, and is found again by `attach`; `attached`, it has that name and still ends with this
        process. `accept_new_host_keys` trusts machines not seen before; nodes install from the folder `wheelhouse` if
        one is given. Raises ProfileError, DoesNotFit, LaunchError, AuthenticationError, ClusterBusy, TimedOut; after
        any of them nothing is left running.
        """
        if not isinstance(profile, Profile):
            profile = load_profile(Path(profile) if profile is not None else None, overrides or {})
        name = f"{PRIVATE_PREFIX}{secrets.token_hex(4)}" if private else profile.name
        if not private:
            _refuse_second(profile.name)
        make_cluster_dir(name)  # says here what is wrong with the home, if anything is
        order = DaemonOrder(
            profile.to_json(),
            name,
            any_port=private,
            attached=private or attached,
            accept_new_host_keys=accept_new_host_keys,
            wheelhouse=str(wheelhouse.absolute()) if wheelhouse is not None else None,
        )
        daemon = DaemonProcess(order)
        ready = daemon.follow(on_event, timeout_s)
        if private or attached:
            return cls(name, ready.status["api"], profile, daemon, ready.took_s)
        daemon.detach()
        return cls(name, ready.status["api"], profile, None, ready.took_s)

    @classmethod
    def attach(cls, name: str | None = None) -> Self:
        """The running cluster `name`, or the only one that runs. Raises NotRunning."""
        state = _running(name)
        profile = Profile.from_json(profile_file(state.name).read_text(encoding="utf-8"))
        return cls(state.name, state.api_url, profile, None, 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def chat(self, text: str, **fields: Any) -> str:
        """The whole answer to `text`; `fields` go into the request (temperature, max_tokens …)."""
        return "".join(self.stream(text, **fields))

    def stream(self, text: str, **fields: Any) -> Generator[str, None, None]:
        """The answer to `text`, piece by piece. Closing the iterator stops the generation in the cluster."""
        messages = [{"role": "user", "content": text}]
        with ChatClient(self.base_url, self.api_key, self.profile.api.key_hint) as client:
            for chunk in client.stream(self.profile.model, messages, fields):
                if chunk.text:
                    yield chunk.text

    def status(self) -> dict[str, Any]:
        """The `/status` document. Raises NotRunning."""
        with ChatClient(self.base_url, self.api_key, self.profile.api.key_hint) as client:
            return client.status()

    def wait(self) -> None:
        """Return when the cluster that this process is attached to has ended by itself."""
        if self._daemon is not None:
            self._daemon.wait()

    def down(self, drain_s: float = DRAIN_S) -> TeardownReport:
        """Drain, stop, verify. Does nothing to a cluster that is down already."""
        if self._daemon is not None:
            self._daemon.end()
        return take_down(self.name, drain_s)


def running_profile(name: str) -> tuple[ClusterState, Profile] | None:
    """State and profile of the cluster `name` if it is up. Raises ClusterBusy while somebody brings it up or down."""
    state = read_state(name)
    if state is None or state.coordinator not in living(state):
        return None
    if state.phase != "ready":
        doing = "brought up" if state.phase == "starting" else "taken down"
        raise ClusterBusy(f"{name} is being {doing} by {state.owner}, pid {state.coordinator.pid}")
    return state, Profile.from_json(profile_file(name).read_text(encoding="utf-8"))


def _refuse_second(name: str) -> None:
    if (running := running_profile(name)) is not None:
        raise LaunchError(f"{name} is running already, at {running[0].api_url}", hint=f"mlxctl down {name}")


def _running(name: str | None) -> ClusterState:
    """Raises NotRunning if there is none, or several to choose from."""
    names = [name] if name else [each for each in list_clusters() if not each.startswith(PRIVATE_PREFIX)]
    states = [state for each in names if (state := read_state(each)) is not None]
    running = [state for state in states if state.phase == "ready" and state.coordinator in living(state)]
    if len(running) == 1:
        return running[0]
    if running:
        raise NotRunning("several clusters are running: " + ", ".join(each.name for each in running), hint="name one")
    dead = next((state for state in states if state.coordinator not in living(state)), None)
    if dead is not None and dead.unreached_nodes:
        nodes = ", ".join(dead.unreached_nodes)
        raise NotRunning(f"{dead.name} is down, but {nodes} could not be reached", hint=f"mlxctl down {dead.name}")
    if dead is not None:
        raise NotRunning(f"the coordinator of {dead.name} is gone", hint=f"mlxctl down {dead.name}")
    raise NotRunning(f"no cluster named {name} is running" if name else "no cluster is running", hint="mlxctl up")
