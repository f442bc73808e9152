"""A state folder for each test, clusters in it that are as alive as a test wants, and the command line itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlxctl import paths
from mlxctl.cli.main import run
from mlxctl.launch.processes import ProcessId, boot_id, current_process
from mlxctl.launch.state import ClusterState, write_state
from mlxctl.profile import load_profile
from tests.scripted_api import ScriptedApi, serve

MakeCluster = Callable[..., ClusterState]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


Mlxctl = Callable[..., Outcome]


@pytest.fixture
def mlxctl(own_home: Path, capsys: pytest.CaptureFixture[str]) -> Mlxctl:
    """`mlxctl("status", "--json")` in this process, with pipes for stdout and stderr."""

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with serve() as scripted:
        yield scripted


@pytest.fixture
def make_cluster(own_home: Path, api: ScriptedApi) -> MakeCluster:
    """Writes the state of a cluster whose coordinator is this process (or nobody) and whose API is scripted."""

    def make(
        name: str = "local", *, phase: str = "ready", alive: bool = True, key_file: Path | None = None
    ) -> ClusterState:
        me = current_process()
        profile = load_profile(None, {"api.api_key_file": str(key_file)} if key_file else {})
        state = ClusterState(
            name=name,
            phase="ready",
            boot_id=boot_id(),
            coordinator=me if alive else ProcessId(me.pid, me.start_time - 1),
            api_url=api.base_url.removesuffix("/v1"),
            model="canary",
            profile_hash="",
            plan_hash="",
            started_at=0.0,
            owner="me@here",
            control_socket="",
        )
        write_state(replace(state, phase=phase))  # type: ignore[arg-type]
        paths.profile_file(name).write_text(profile.to_json(), encoding="utf-8")
        return state

    return make
