"""Clusters on bare hosts, from nothing to an answer and back to nothing, and what goes wrong on the way."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mlxctl import paths
from mlxctl.launch.state import ClusterState, read_state
from tests.commands import Finished, finish, mlxctl, start
from tests.conftest import our_processes
from tests.hosts import Host, TestBed, bare_hosts
from tests.wheelhouses import filled_wheelhouse

__all__ = ["filled_wheelhouse"]

pytestmark = pytest.mark.ssh

ANSWER = "I am Canary, the tiny model built into mlxctl.\n"


class Cluster:
    """A profile on the bed's hosts and the commands that its user types."""

    def __init__(self, bed: TestBed, folder: Path, wheelhouse: Path) -> None:
        self.bed = bed
        self.hosts = bed.hosts
        self.name = f"ssh-{os.getpid()}-{time.monotonic_ns()}"
        self.profile = folder / "profile.yaml"
        self.options = ("up", str(self.profile), "--wheelhouse", str(wheelhouse))
        self.environment = dict(bed.environment)
        self.profile.write_text(bed.profile(self.name))

    def run(self, *arguments: str) -> Finished:
        return mlxctl(*arguments, environment=self.environment)

    def up(self, *options: str) -> Finished:
        return self.run(*self.options, *options)

    def down(self, *options: str) -> Finished:
        return self.run("down", self.name, *options)

    def chat(self) -> Finished:
        return self.run("chat", "--cluster", self.name, "Who are you?")

    def broken_stream(self, fault: Callable[[], object]) -> dict[str, Any]:
        """The error that a running stream ends with, `fault` having come to pass after its first tokens."""
        status = self.run("status", self.name, "--json").json()
        endless = {"max_tokens": 4000, "logit_bias": {"99": 100}, "stream": True}
        request = {"model": "canary", "messages": [{"role": "user", "content": "Who are you?"}], **endless}
        with httpx2.stream(
            "POST", f"{status['api']}/v1/chat/completions", json=request, timeout=60, trust_env=False
        ) as stream:
            assert stream.status_code == 200
            lines = stream.iter_lines()
            for _ in range(20):
                next(lines)
            fault()
            events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        error: dict[str, Any] = events[-1]["error"]
        return error

    @property
    def state(self) -> ClusterState:
        state = read_state(self.name)
        assert state is not None
        return state

    def is_spawned(self) -> bool:
        state = read_state(self.name)
        return state is not None and len(state.workers) == len(self.hosts)

    def assert_nothing_left(self, home: Path) -> None:
        """Within the promised 10 s."""
        until(lambda: not our_processes(home) and not any(host.leftovers() for host in self.hosts), 10)
        assert read_state(self.name) is None


@pytest.fixture(scope="module")
def kept_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBed]:
    """Two hosts on which mlxctl stays installed from one test to the next; root logs in to one of them."""
    with bare_hosts(2, tmp_path_factory.mktemp("bed"), users=["root"]) as bed:
        bed.know()
        yield bed


@contextmanager
def cluster_on(bed: TestBed, folder: Path, wheelhouse: Path, home: Path) -> Iterator[Cluster]:
    """Whatever a test leaves of it is taken down."""
    cluster = Cluster(bed, folder, wheelhouse)
    try:
        yield cluster
    finally:
        for host in cluster.hosts:
            host.mend()
        cluster.down("--force")
    cluster.assert_nothing_left(home)


@pytest.fixture
def cluster(kept_bed: TestBed, tmp_path: Path, filled_wheelhouse: Path, home: Path) -> Iterator[Cluster]:
    with cluster_on(kept_bed, tmp_path, filled_wheelhouse, home) as cluster:
        yield cluster


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to that"
        time.sleep(0.05)


def stored(host: Host) -> set[str]:
    return {name for name in host.files() if "/store/" in name}


def test_four_bare_hosts_answer_and_are_clean_afterwards(tmp_path: Path, filled_wheelhouse: Path, home: Path) -> None:
    with bare_hosts(4, tmp_path, users=["root"]) as bed, cluster_on(bed, tmp_path, filled_wheelhouse, home) as cluster:
        bed.know()
        up = cluster.up()
        assert up.code == 0, up.stderr
        stages = json.loads(cluster.run("status", cluster.name, "--json").stdout)["stages"]
        assert [stage["node"] for stage in stages] == ["h0", "h1", "h2", "h3"]
        assert [stage["host"] for stage in stages] == [host.address for host in bed.hosts]
        assert [{stage["address"]} for stage in stages] == [host.listening() for host in bed.hosts]
        assert all(len(stored(host)) >= 2 for host in bed.hosts)
        assert cluster.chat().stdout == ANSWER
        down = cluster.down()
        assert down.code == 0, down.stderr
        assert all(f"{host.name}: nothing of it is left there" in down.stderr for host in bed.hosts)
        cluster.assert_nothing_left(home)
        assert not any("/state/mlxctl/claim" in name for host in bed.hosts for name in host.files())


def test_a_second_up_installs_and_sends_nothing(cluster: Cluster) -> None:
    assert cluster.up().code == 0
    assert cluster.down().code == 0
    before = [host.files() for host in cluster.hosts]
    again = cluster.up()
    assert again.code == 0 and again.stderr.count("from before") == 2
    assert cluster.down().code == 0
    assert [host.files() for host in cluster.hosts] == before


def test_this_machine_and_a_host_form_one_cluster(cluster: Cluster) -> None:
    from mlxctl.profile import Node

    nodes = [Node(name="here", host="localhost"), cluster.hosts[0].node(name="there")]
    cluster.profile.write_text(cluster.bed.profile(cluster.name, nodes))
    up = cluster.up()
    assert up.code == 0, up.stderr
    addresses = {worker.node: worker.address.rpartition(":")[0] for worker in cluster.state.workers}
    assert addresses == {"here": cluster.bed.address, "there": cluster.hosts[0].address}
    assert cluster.chat().stdout == ANSWER


def test_nodes_on_one_host_share_its_connection_and_its_claim(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    cluster.profile.write_text(cluster.bed.profile(cluster.name, [host.node(name="a"), host.node(name="b")]))
    up = cluster.up()
    assert up.code == 0, up.stderr
    assert len(host.listening()) == 2 and len(host.run("cat /root/.local/state/mlxctl/claim").split(",")) >= 2
    assert cluster.chat().stdout == ANSWER


def test_a_dry_run_says_what_every_phase_would_do_and_touches_nobody(cluster: Cluster) -> None:
    dry = cluster.up("--dry-run")
    assert dry.code == 0
    phases = [line for line in dry.stdout.splitlines() if not line.startswith(" ")]
    assert phases[:4] == ["Read the model", "Connect", "Install mlxctl", "Inspect nodes"] and phases[-1] == "Load"
    assert f"h1: log in at {cluster.hosts[1].user}@{cluster.hosts[1].address}" in dry.stdout
    assert read_state(cluster.name) is None


def test_bare_hosts_are_asked_for_their_memory_by_plan(cluster: Cluster) -> None:
    plan = cluster.run("plan", str(cluster.profile), "--json")
    assert plan.code == 0, plan.stderr
    assert {node["name"] for node in plan.json()["nodes"]} == {"h0", "h1"}


def test_an_unknown_host_key_stops_up_and_is_accepted_when_asked(cluster: Cluster) -> None:
    known = cluster.bed.home / ".ssh" / "known_hosts"
    before = known.read_text()
    known.write_text(before.splitlines(keepends=True)[0])
    try:
        refused = cluster.up()
        assert refused.code == 4 and "node h1: the host key of" in refused.stderr
        assert f"ssh-keyscan {cluster.hosts[1].address} >> ~/.ssh/known_hosts" in refused.stderr
        assert cluster.up("--accept-new-host-keys").code == 0
        assert cluster.down().code == 0
    finally:
        paths.known_hosts_file().unlink(missing_ok=True)
        known.write_text(before)


@pytest.mark.parametrize("kill", ["stop", "cut"])
def test_a_host_that_is_not_there_is_named(cluster: Cluster, kill: str) -> None:
    host = cluster.hosts[1]
    host.stop_sshd() if kill == "stop" else host.cut()
    up = cluster.up()
    assert up.code == 1 and "error: node h1: " in up.stderr and "try: ssh" in up.stderr
    host.start_sshd() if kill == "stop" else host.mend()


def test_a_host_held_by_another_is_named_and_a_dead_holder_is_not_asked(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.up().code == 0
    other = Cluster(cluster.bed, tmp_path, Path(cluster.options[-1]))
    refused = other.up()
    assert refused.code == 1 and f"it serves cluster {cluster.name} of " in refused.stderr
    assert "error: node h" in refused.stderr and f"mlxctl down {cluster.name}" in refused.stderr
    assert cluster.chat().stdout == ANSWER
    assert cluster.down().code == 0
    assert other.up().code == 0
    assert other.down().code == 0


def test_workers_end_with_a_killed_coordinator_and_up_again_sends_nothing(cluster: Cluster, home: Path) -> None:
    assert cluster.up().code == 0
    os.kill(cluster.state.coordinator.pid, signal.SIGKILL)
    until(lambda: not any(host.ports() for host in cluster.hosts), timeout_s=2)
    until(lambda: not any(host.leftovers() for host in cluster.hosts), timeout_s=5)
    down = cluster.down()
    assert down.code == 0 and "h1: nothing of it is left there" in down.stderr
    again = cluster.up()
    assert again.code == 0 and again.stderr.count("from before") == 2


def test_down_ends_what_a_dead_coordinator_cannot(cluster: Cluster) -> None:
    assert cluster.up().code == 0
    state = cluster.state
    host = cluster.hosts[0]
    pid = state.workers[0].process.pid
    host.run(f"kill -STOP {pid} $(pgrep -f kee[p])")  # neither sees that its launcher is gone
    os.kill(state.coordinator.pid, signal.SIGKILL)
    until(lambda: not cluster.hosts[1].ports())
    assert host.ports()
    down = cluster.down()
    assert down.code == 0 and "h0: ended pid" in down.stderr
    assert not host.leftovers()


def test_workers_end_when_their_launcher_hangs(cluster: Cluster) -> None:
    assert cluster.up().code == 0
    coordinator = cluster.state.coordinator.pid
    os.kill(coordinator, signal.SIGSTOP)
    until(lambda: not any(host.ports() for host in cluster.hosts), timeout_s=15)
    os.kill(coordinator, signal.SIGKILL)


def test_a_host_that_sleeps_for_some_seconds_loses_nothing(cluster: Cluster) -> None:
    assert cluster.up().code == 0
    workers = cluster.state.workers
    everything = "$(ps -eo pid= | awk '$1 > 2 && $1 != '$$)"
    cluster.hosts[1].run(f"all={everything}; kill -STOP $all; sleep 4; kill -CONT $all", check=False)
    assert cluster.chat().stdout == ANSWER
    assert cluster.state.workers == workers


def isolate(hosts: Sequence[Host]) -> None:
    for host in hosts:
        host.isolate()


EDGE = "node h0, stage 0: its link to stage 1 on node h1 ("
EDGE_BACK = "node h1, stage 1: its link to stage 0 on node h0 ("


def test_a_link_cut_between_two_workers_alone_is_named_and_down_leaves_nothing(cluster: Cluster, home: Path) -> None:
    assert cluster.up().code == 0
    error = cluster.broken_stream(lambda: isolate(cluster.hosts))
    assert error["code"] == "stage_lost" and error["message"].startswith((EDGE, EDGE_BACK))
    status = cluster.run("status", cluster.name, "--json")
    assert status.code == 5 and status.json()["problem"].startswith((EDGE, EDGE_BACK))
    chat = cluster.chat()
    assert chat.code == 5 and "mlxctl doctor" in cluster.run("logs", cluster.name).stdout
    down = cluster.down()
    assert down.code == 0, down.stderr
    cluster.assert_nothing_left(home)


def test_a_link_cut_between_two_workers_is_noticed_though_nothing_runs(cluster: Cluster) -> None:
    assert cluster.up().code == 0
    isolate(cluster.hosts)
    until(lambda: cluster.run("status", cluster.name).code == 5)
    assert cluster.run("status", cluster.name, "--json").json()["problem"].startswith((EDGE, EDGE_BACK))


@pytest.mark.parametrize("fault", ["kill", "cut"])
def test_a_neighbour_that_is_gone_is_named_rather_than_the_edge_to_it(cluster: Cluster, fault: str) -> None:
    assert cluster.up().code == 0
    host, pid = cluster.hosts[1], cluster.state.workers[1].process.pid
    faults: dict[str, Callable[[], object]] = {"kill": lambda: host.run(f"kill -9 {pid}"), "cut": host.cut}
    error = cluster.broken_stream(faults[fault])
    assert error["message"].startswith("node h1, stage 1: the worker "), error


def test_a_disk_without_room_for_the_weights_is_named(cluster: Cluster, home: Path) -> None:
    host = cluster.hosts[1]
    store = f"{host.home}/.local/state/mlxctl/store"
    host.run(f"mkdir -p {store}; mount -t tmpfs -o size=100k,mode=777 tmpfs {store}")
    up = cluster.up()
    assert up.code == 1 and "error: node h1, stage 1: its weights need" in up.stderr
    host.run(f"umount {store}")
    cluster.assert_nothing_left(home)


def test_a_node_that_down_cannot_reach_is_remembered(cluster: Cluster, home: Path) -> None:
    assert cluster.up().code == 0
    host = cluster.hosts[1]
    host.cut()
    down = cluster.down("--drain", "0")
    assert down.code == 1 and "node h1: no answer" in down.stderr and "h0: nothing of it is left there" in down.stderr
    assert cluster.state.unreached_nodes == ("h1",)
    status = cluster.run("status", cluster.name)
    assert status.code == 3 and "h1 could not be reached" in status.stderr
    until(lambda: not host.ports(), timeout_s=15)  # its lease
    host.mend()
    again = cluster.down()
    assert again.code == 0 and "h1: " in again.stderr
    cluster.assert_nothing_left(home)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_up_that_is_ended_half_way_leaves_nothing(cluster: Cluster, home: Path, number: signal.Signals) -> None:
    up = start(*cluster.options, environment=cluster.environment)
    until(cluster.is_spawned)
    up.send_signal(number)
    assert finish(up).code != 0
    cluster.assert_nothing_left(home)


def test_two_ups_at_once_are_one_cluster(cluster: Cluster) -> None:
    first = start(*cluster.options, environment=cluster.environment)
    until(lambda: read_state(cluster.name) is not None)
    second = cluster.up()
    assert second.code == 1 and "is being brought up by" in second.stderr
    assert finish(first).code == 0
    assert cluster.chat().stdout == ANSWER


def test_a_port_that_is_taken_on_a_host_is_named(cluster: Cluster, home: Path) -> None:
    host = cluster.hosts[1]
    host.run(
        "python3 -c 'import socket, time; s = socket.create_server((\"\", 50101)); time.sleep(99)' >/dev/null 2>&1 &"
    )
    host.until("ss -Hltn | grep -q ':50101 '")
    cluster.environment["MLXCTL_GRPC_PORT"] = "50100"
    up = cluster.up()
    assert up.code == 1 and f"error: node h1: port 50101 on {host.address} is taken" in up.stderr
    host.run("pkill -f [c]reate_server", check=False)
    cluster.assert_nothing_left(home)


def sent_to_h1(cluster: Cluster, begins: str = "") -> bool:
    """Whether the coordinator has said how much it sent; `begins` is the beginning of that."""
    log = paths.log_file(cluster.name, "coordinator")
    return f"Weights on h1: running, {begins}" in log.read_text().rpartition("Weights: running")[2]


def test_weights_on_a_slow_link_do_not_keep_the_lease_waiting(cluster: Cluster) -> None:
    host = cluster.hosts[1]
    host.run(f"rm -rf {host.home}/.local/state/mlxctl/store")
    up = start(*cluster.options, environment=cluster.environment)
    until(cluster.is_spawned)
    host.slow(500_000)
    until(
        lambda: sent_to_h1(cluster) or up.poll() is not None, timeout_s=60
    )  # long after a lease that waits for them has run out
    host.mend()
    finished = finish(up)
    assert finished.code == 0, finished.stderr
    assert cluster.chat().stdout == ANSWER


def test_a_link_cut_while_weights_are_sent_is_named_and_the_rest_is_sent_next_time(
    cluster: Cluster, home: Path
) -> None:
    assert cluster.up().code == 0
    assert cluster.down().code == 0
    host = cluster.hosts[1]
    host.run(f"rm -r {host.home}/.local/state/mlxctl/store")
    host.slow(4_000_000)
    up = start(*cluster.options, environment=cluster.environment)
    until(lambda: sent_to_h1(cluster, "1."))
    host.cut()
    failed = finish(up)
    assert failed.code in (1, 5) and "error: node h1, stage 1: " in failed.stderr
    host.mend()
    until(lambda: not any(each.leftovers() for each in cluster.hosts), timeout_s=15)
    again = cluster.up()
    assert again.code == 0, again.stderr
    assert "Weights [h1]: " in again.stderr and " were there" in again.stderr


def test_another_version_on_one_host_is_refused_by_name(cluster: Cluster, home: Path) -> None:
    assert cluster.up().code == 0
    assert cluster.down().code == 0
    markers = f"{cluster.hosts[1].home}/.local/state/mlxctl/venvs/*/installed.json"
    mlx = importlib.metadata.version("mlx")
    cluster.hosts[1].run(f"sed -i 's/{mlx}/0.0.1/' {markers}")
    up = cluster.up()
    assert up.code == 1 and f"error: node h1: mlx is 0.0.1 there and {mlx} on this machine" in up.stderr
    cluster.hosts[1].run(f"sed -i 's/0[.]0[.]1/{mlx}/' {markers}")
    cluster.assert_nothing_left(home)


def test_no_secret_is_seen_on_the_hosts_or_in_any_log(cluster: Cluster, tmp_path: Path, home: Path) -> None:
    key, token = "key-4f1d9b6ce0a7", "token-83c2e5d07b19"
    key_file = tmp_path / "key"
    key_file.write_text(key)
    key_file.chmod(0o600)
    profile = cluster.profile.read_text()
    cluster.profile.write_text(f"api: {{api_key_file: {key_file}}}\n{profile}")
    cluster.environment["HF_TOKEN"] = token
    assert cluster.up().code == 0
    assert cluster.chat().stdout == ANSWER
    secrets = (key, token, "PRIVATE KEY")
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    assert not [pid for pid in pids if any(secret in command_line(pid) for secret in secrets)]
    for host in cluster.hosts:
        environments = host.run("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'", check=False)
        ours = host.run(f"cd {host.home}/.local/state/mlxctl && cat claim && cat store/*/*.json")
        assert not [secret for secret in secrets if secret in environments or secret in ours]
    assert cluster.down().code == 0
    written = [file for file in (home / "clusters" / cluster.name).rglob("*") if file.is_file()]
    assert len(written) >= 3
    assert not [(file, secret) for file in written for secret in secrets if secret in file.read_text()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_a_refused_key_a_changed_host_key_and_a_missing_python_are_named(
    tmp_path: Path, filled_wheelhouse: Path, home: Path
) -> None:
    with bare_hosts(2, tmp_path) as bed, cluster_on(bed, tmp_path, filled_wheelhouse, home) as cluster:
        bed.know()
        host = bed.hosts[1]
        host.hide("/usr/bin/python3.11")
        missing = cluster.up()
        assert missing.code == 1 and "error: node h1: " in missing.stderr and "Python 3.11" in missing.stderr
        cluster.assert_nothing_left(home)
        host.refuse_keys()
        refused = cluster.up()
        assert refused.code == 4 and f"error: node h1: {host.user} may not log in" in refused.stderr
        assert "ssh-copy-id" in refused.stderr
        host.new_host_key()
        changed = cluster.up("--accept-new-host-keys")
        assert changed.code == 4 and "error: node h1: the host key of" in changed.stderr
        assert "known_hosts:2" in changed.stderr and "ssh-keygen -f" in changed.stderr
        cluster.assert_nothing_left(home)
