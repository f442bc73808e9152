"""What of a running cluster can be reached from where, and by whom; and what a failure tells."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

import mlxctl
from mlxctl.errors import AuthenticationError, MlxctlError, UsageError
from mlxctl.launch.events import PhaseEvent
from mlxctl.launch.state import ClusterState, read_state
from mlxctl.paths import log_file
from mlxctl.profile import Profile

pytestmark = [pytest.mark.integration, pytest.mark.api]

KEPT_OPEN = {"/health"}
PATIENCE_S = 30.0
PATHS = ("/health", "/status", "/metrics", "/openapi.json", "/v1/models", "/v1/models/canary", "/nowhere")


def profile(key_file: Path | None = None, data_address: str | None = None) -> Profile:
    nodes = [{"name": "a", "host": "localhost"}, {"name": "b", "host": "localhost", "data_address": data_address}]
    api = {"api_key_file": str(key_file)} if key_file else {}
    return Profile.from_json(json.dumps({"name": "exposure", "nodes": nodes, "api": api}))


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "key"


@pytest.fixture(scope="module")
def cluster(key_file: Path) -> Iterator[mlxctl.Cluster]:
    with mlxctl.Cluster.up(profile(key_file)) as running:
        yield running


def state_of(cluster: mlxctl.Cluster) -> ClusterState:
    state = read_state(cluster.name)
    assert state is not None
    return state


def listening(pid: int) -> set[str]:
    """Addresses on which a process listens."""
    connections = psutil.Process(pid).net_connections("inet")
    addresses = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    return {address.removeprefix("::ffff:") for address in addresses}  # IPv4, as gRPC's sockets write it


def test_the_key_was_made_for_its_owner_alone_and_opens(cluster: mlxctl.Cluster, key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert cluster.chat("Who are you?", temperature=0).startswith("I am Canary")


@pytest.mark.parametrize("path", PATHS)
def test_without_the_key_only_health_answers(cluster: mlxctl.Cluster, path: str) -> None:
    root = cluster.base_url.removesuffix("/v1")
    with httpx2.Client(trust_env=False) as client:
        refused = client.get(root + path)
        assert refused.status_code == (200 if path in KEPT_OPEN else 401)
        assert client.post(f"{root}/v1/chat/completions", json={}).status_code == 401


def test_prometheus_reads_what_the_cluster_did(cluster: mlxctl.Cluster) -> None:
    cluster.chat("Who are you?", temperature=0)
    until_s = time.monotonic() + PATIENCE_S
    while not re.search(r'^mlxctl_stage_sent_bytes_total{node="a",stage="0"} [1-9]', text := scrape(cluster), re.M):
        assert time.monotonic() < until_s, text
        time.sleep(0.1)  # the workers are asked once a second
    assert re.search(r'^mlxctl_stage_steps_total{node="b",stage="1"} [1-9]', text, re.M)
    assert re.search(r"^mlxctl_tokens_generated_total [1-9]", text, re.M)
    assert re.search(r"^mlxctl_time_to_first_token_seconds_count [1-9]", text, re.M)


def scrape(cluster: mlxctl.Cluster) -> str:
    headers = {"Authorization": f"Bearer {cluster.api_key}"}
    response = httpx2.get(cluster.base_url.removesuffix("/v1") + "/metrics", headers=headers, trust_env=False)
    assert response.headers["content-type"].startswith("text/plain; version=")
    return response.text


def test_nothing_listens_beyond_loopback(cluster: mlxctl.Cluster) -> None:
    state = state_of(cluster)
    assert listening(state.coordinator.pid) == {"127.0.0.1"}
    assert [listening(worker.process.pid) for worker in state.workers] == [{"127.0.0.1"}] * 2


def test_a_key_that_was_replaced_is_refused_with_the_way_on(key_file: Path, tmp_path: Path) -> None:
    own_key = tmp_path / "key"
    with mlxctl.Cluster.up(profile(own_key)) as running:
        own_key.write_text("another-key-than-before", encoding="utf-8")
        running.api_key = running.profile.api.read_key()
        with pytest.raises(AuthenticationError) as caught:
            running.status()
        assert "mlxctl up --recreate" in str(caught.value.hint)


def test_a_weak_key_is_refused_and_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_text("short", encoding="utf-8")
    with pytest.raises(UsageError, match="too easy to guess"):
        mlxctl.Cluster.up(profile(tmp_path / "key"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address only")
def test_a_worker_listens_on_its_data_address_only() -> None:
    with mlxctl.Cluster.up(profile(data_address="127.0.0.2")) as running:
        first, second = state_of(running).workers
        assert listening(first.process.pid) == {"127.0.0.1"}
        assert listening(second.process.pid) == {"127.0.0.2"}


def test_the_last_lines_of_a_worker_that_failed_come_with_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    pids: dict[str | None, int] = {}

    def crash_second(event: PhaseEvent) -> None:
        if (pid := re.match(r"pid (\d+)", event.detail)) is not None:
            pids[event.node] = int(pid[1])
        if event.node == "b" and event.detail.startswith("listens"):
            os.kill(pids["b"], signal.SIGABRT)

    with pytest.raises(MlxctlError) as caught:
        mlxctl.Cluster.up(profile(), on_event=crash_second)
    assert caught.value.node == "b"
    assert any(line.startswith("  File ") for line in caught.value.log_lines)  # of where it was when it crashed


def test_the_logs_of_a_cluster_outlive_it_and_the_next_one_adds_to_them() -> None:
    for _ in range(2):
        with mlxctl.Cluster.up(profile(), private=False):
            pass
    lines = log_file("exposure", "coordinator").read_text(encoding="utf-8").splitlines()
    assert sum(line.endswith("Load: done") for line in lines) == 2
    assert all(line == line.rstrip() for line in lines)
