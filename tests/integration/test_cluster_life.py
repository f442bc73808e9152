"""A cluster from `up` to `down`, and every way to its end that is not `down`: nothing is ever left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mlxctl.launch.state import ClusterState, read_state
from tests.commands import finish, mlxctl, start
from tests.conftest import our_processes

pytestmark = pytest.mark.integration


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Path]:
    """A profile of two workers under a name of its own; whatever a test leaves of it is taken down."""
    name = f"life-{os.getpid()}-{time.monotonic_ns()}"
    path = tmp_path / "profile.yaml"
    nodes = "".join(f"  - {{name: {node}, host: localhost}}\n" for node in ("a", "b"))
    path.write_text(f"name: {name}\nnodes:\n{nodes}")
    yield path
    mlxctl("down", name, "--force")


def name_of(profile: Path) -> str:
    return profile.read_text().split()[1]


def state_of(profile: Path) -> ClusterState:
    state = read_state(name_of(profile))
    assert state is not None
    return state


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to that"
        time.sleep(0.02)


def spawned(profile: Path) -> bool:
    state = read_state(name_of(profile))
    return state is not None and len(state.workers) == 2


def is_free(address: str) -> bool:
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
        return True


@pytest.mark.smoke
def test_up_serves_status_tells_and_down_leaves_nothing(profile: Path, home: Path) -> None:
    up = mlxctl("up", str(profile))
    assert up.code == 0, up.stderr
    state = state_of(profile)
    assert state.api_url in up.stdout and "Load [b]: warm" in up.stderr

    status = mlxctl("status", state.name, "--json").json()
    assert (status["schema"], status["state"], status["model"]) == ("mlxctl.status/1", "ready", "canary")
    assert [stage["node"] for stage in status["stages"]] == ["a", "b"]
    assert status["stages"][0]["layers"][1] == status["stages"][1]["layers"][0]

    answer = mlxctl("chat", "--cluster", state.name, "Who are you?")
    assert (answer.code, answer.stdout) == (0, "I am Canary, the tiny model built into mlxctl.\n")
    assert mlxctl("status", state.name, "--json").json()["requests"]["completed"] == 1

    down = mlxctl("down", state.name)
    assert down.code == 0 and "no process of it is left" in down.stderr
    assert not our_processes(home)
    assert all(is_free(address) for address in (state.api_url, *(worker.address for worker in state.workers)))
    assert read_state(state.name) is None and not Path(state.control_socket).exists()
    logs = mlxctl("logs", state.name)
    assert logs.code == 0 and "Load: done" in logs.stdout


def test_up_again_says_that_it_is_up_and_another_profile_is_refused_until_recreated(profile: Path) -> None:
    assert mlxctl("up", str(profile)).code == 0
    first = state_of(profile)
    again = mlxctl("up", str(profile))
    assert again.code == 0 and "is up already" in again.stderr
    assert state_of(profile).coordinator == first.coordinator
    other = mlxctl("up", str(profile), "--context", "512")
    assert other.code == 1 and "context: default -> 512" in other.stderr and "--recreate" in other.stderr
    recreated = mlxctl("up", str(profile), "--context", "512", "--recreate")
    assert recreated.code == 0 and "context 512" in recreated.stdout
    assert state_of(profile).coordinator != first.coordinator


def test_a_second_up_while_the_first_is_at_it_says_whose_it_is(profile: Path) -> None:
    first = start("up", str(profile))
    until(lambda: read_state(name_of(profile)) is not None)
    second = mlxctl("up", str(profile))
    assert second.code == 1 and "is being brought up by" in second.stderr
    assert finish(first).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_up_that_is_ended_half_way_leaves_nothing(profile: Path, home: Path, number: signal.Signals) -> None:
    up = start("up", str(profile))
    until(lambda: spawned(profile))
    up.send_signal(number)
    ended = finish(up)
    assert ended.code in {signal.SIGINT: (130,), signal.SIGTERM: (143, -signal.SIGTERM)}.get(number, (-number,))
    until(lambda: not our_processes(home), timeout_s=10)
    assert read_state(name_of(profile)) is None


def test_down_while_up_is_at_it_stops_it(profile: Path, home: Path) -> None:
    up = start("up", str(profile))
    until(lambda: spawned(profile))
    assert mlxctl("down", name_of(profile)).code == 0
    ended = finish(up)
    assert ended.code == 130 and "nothing of it is left" in ended.stderr
    assert not our_processes(home)


def test_workers_end_within_two_seconds_of_a_killed_coordinator(profile: Path, home: Path) -> None:
    assert mlxctl("up", str(profile)).code == 0
    state = state_of(profile)
    os.kill(state.coordinator.pid, signal.SIGKILL)
    until(lambda: not our_processes(home), timeout_s=2)

    status = mlxctl("status", state.name)
    assert status.code == 3 and "coordinator" in status.stderr and f"mlxctl down {state.name}" in status.stderr
    chat = mlxctl("chat", "--cluster", state.name, "Hello!")
    assert chat.code == 3 and f"mlxctl down {state.name}" in chat.stderr
    down = mlxctl("down", state.name)
    assert down.code == 0
    assert read_state(state.name) is None and not Path(state.control_socket).exists()
    assert mlxctl("up", str(profile)).code == 0


def test_a_lost_worker_shows_as_degraded_and_requests_are_refused_by_name(profile: Path) -> None:
    assert mlxctl("up", str(profile)).code == 0
    state = state_of(profile)
    os.kill(state.workers[1].process.pid, signal.SIGKILL)
    until(lambda: mlxctl("status", state.name).code == 5)
    chat = mlxctl("chat", "--cluster", state.name, "Hello!")
    assert chat.code == 5 and "node b" in chat.stderr
    assert mlxctl("status", state.name, "--json").json()["problem"].startswith("node b, stage 1: the worker is gone")
    again = mlxctl("up", str(profile))
    assert again.code == 5 and "--recreate" in again.stderr
    assert mlxctl("up", str(profile), "--recreate").code == 0


def test_a_foreground_cluster_ends_with_ctrl_c(profile: Path, home: Path) -> None:
    up = start("up", str(profile), "--foreground")
    assert up.stderr is not None
    until(lambda: up.stderr is not None and "serving" in up.stderr.readline())
    up.send_signal(signal.SIGINT)
    assert finish(up).code == 0
    assert not our_processes(home)


def test_two_clusters_of_different_names_do_not_collide(profile: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(profile.read_text().replace("life-", "more-"))
    assert mlxctl("up", str(profile)).code == 0
    assert mlxctl("up", str(other)).code == 0
    states = [state_of(profile), state_of(other)]
    addresses = [worker.address for state in states for worker in state.workers]
    assert len({*addresses, *(state.api_url for state in states)}) == 6
    for state in states:
        assert mlxctl("chat", "--cluster", state.name, "Hello!").stdout.startswith("Hello! I am Canary")
    assert mlxctl("down", states[1].name).code == 0
    assert mlxctl("status", states[0].name).code == 0


def test_a_port_that_is_asked_for_and_taken_is_named(profile: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for variable in ("MLXCTL_API_PORT", "MLXCTL_GRPC_PORT"):
            up = mlxctl("up", str(profile), environment={variable: port})
            assert up.code == 1 and f"port {port} on 127.0.0.1 is taken" in up.stderr
    assert read_state(name_of(profile)) is None


def test_an_up_that_takes_too_long_gives_up_and_leaves_nothing(profile: Path, home: Path) -> None:
    up = mlxctl("up", str(profile), "--timeout", "1")
    assert up.code == 124 and "not ready in 1 s" in up.stderr
    assert not our_processes(home)


def test_a_truncated_model_is_named(profile: Path, tmp_path: Path) -> None:
    from mlxctl.canary import MODEL_DIR

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in MODEL_DIR.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    up = mlxctl("up", str(profile), "--model", str(broken))
    assert up.code == 1 and str(weights) in up.stderr and "truncated" in up.stderr


def test_an_unknown_model_is_named(profile: Path) -> None:
    up = mlxctl("up", str(profile), "--model", "nobody/nothing")
    assert up.code == 1 and "nobody/nothing" in up.stderr and "hint:" in up.stderr


def test_a_model_that_does_not_fit_says_so_before_anything_starts(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("name: small\nnodes:\n  - {name: a, host: localhost, memory: 20MB}\n")
    up = mlxctl("up", str(path))
    assert up.code == 1 and "needs" in up.stderr and not our_processes(home)


def test_a_four_mac_profile_runs_on_this_machine() -> None:
    try:
        up = mlxctl("up", "profiles/4xm4.yaml", "--local", "--model", "canary")
        assert up.code == 0, up.stderr
        assert len(mlxctl("status", "4xm4", "--json").json()["stages"]) == 4
        assert "I am Canary" in mlxctl("chat", "--cluster", "4xm4", "Who are you?").stdout
    finally:
        assert mlxctl("down", "4xm4").code == 0


def test_a_private_chat_leaves_not_even_a_folder(home: Path) -> None:
    answer = mlxctl("chat", "Who are you?")
    assert (answer.code, answer.stdout) == (0, "I am Canary, the tiny model built into mlxctl.\n")
    assert not list((home / "clusters").glob("private-*"))
    assert not our_processes(home)


def test_a_killed_chat_takes_its_private_cluster_along(home: Path) -> None:
    chat = start("chat", "Count from 1 to 100.")
    until(lambda: any("worker" in line for line in our_processes(home)))
    psutil.Process(chat.pid).kill()
    finish(chat)
    until(lambda: not our_processes(home), timeout_s=10)


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/proc/mounts").exists(), reason="needs root to mount a small tmpfs")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        (small / "fill").write_bytes(bytes(60 << 10))
        up = mlxctl("up", environment={"MLXCTL_HOME": str(small / "home")})
        assert up.code == 1 and "No space left on device" in up.stderr and "MLXCTL_HOME" in up.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True)
