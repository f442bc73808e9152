"""`mlxctl logs`, also of clusters that are gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlxctl import paths
from tests.unit.cli.conftest import MakeCluster, Mlxctl

pytestmark = pytest.mark.unit


def write_logs(cluster: str) -> None:
    paths.make_cluster_dir(cluster)
    paths.log_file(cluster, "coordinator").write_text("2026-11-21T06:31:02.000Z ready\n", encoding="utf-8")
    paths.log_file(cluster, "worker-1").write_text("2026-11-21T06:31:01.000Z loading\n", encoding="utf-8")


@pytest.mark.usefixtures("own_home")
def test_the_logs_of_a_cluster_that_is_gone_can_be_read(mlxctl: Mlxctl) -> None:
    write_logs("local")
    assert mlxctl("logs").out == (
        "2026-11-21T06:31:01.000Z worker-1    loading\n2026-11-21T06:31:02.000Z coordinator ready\n"
    )


def test_the_running_cluster_is_meant_where_others_left_logs(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster("running")
    write_logs("running")
    write_logs("old")
    assert mlxctl("logs").code == 0


@pytest.mark.usefixtures("own_home")
def test_several_clusters_with_logs_are_listed(mlxctl: Mlxctl) -> None:
    write_logs("one")
    write_logs("two")
    outcome = mlxctl("logs")
    assert outcome.code == 2
    assert "one, two" in outcome.err


@pytest.mark.usefixtures("own_home")
def test_one_node_can_be_chosen(mlxctl: Mlxctl) -> None:
    write_logs("local")
    assert mlxctl("logs", "local", "--node", "worker-1").out == "2026-11-21T06:31:01.000Z worker-1 loading\n"


@pytest.mark.usefixtures("own_home")
def test_an_unknown_node_is_answered_with_those_there_are(mlxctl: Mlxctl) -> None:
    write_logs("local")
    outcome = mlxctl("logs", "--node", "worker-9")
    assert outcome.code == 2
    assert "hint: nodes: coordinator, worker-1" in outcome.err


@pytest.mark.usefixtures("own_home")
def test_since_leaves_older_lines_out(mlxctl: Mlxctl) -> None:
    write_logs("local")
    assert "loading" not in mlxctl("logs", "--since", "2026-11-21T06:31:02Z").out


@pytest.mark.parametrize("arguments", [("logs",), ("logs", "nobody")])
def test_no_logs_are_no_running_cluster(mlxctl: Mlxctl, arguments: tuple[str, ...]) -> None:
    assert mlxctl(*arguments).code == 3


@pytest.mark.usefixtures("own_home")
def test_following_shows_what_is_written_meanwhile(mlxctl: Mlxctl, monkeypatch: pytest.MonkeyPatch) -> None:
    write_logs("local")
    lines = iter(["2026-11-21T06:31:03.000Z still here\n"])

    def write_and_leave(seconds_s: float) -> None:
        line = next(lines, None)
        if line is None:
            raise KeyboardInterrupt
        with paths.log_file("local", "worker-1").open("a", encoding="utf-8") as file:
            file.write(line)

    monkeypatch.setattr("mlxctl.cli.logs.time.sleep", write_and_leave)
    outcome = mlxctl("logs", "--follow")
    assert outcome.code == 130
    assert outcome.out.splitlines()[2:] == ["2026-11-21T06:31:03.000Z worker-1    still here"]


@pytest.mark.usefixtures("own_home")
def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    paths.make_cluster_dir("local")
    line = "2026-11-21T06:31:01.000Z loading\n"
    paths.log_file("local", "worker-1").write_text(line * 20_000, encoding="utf-8")  # more than a pipe holds
    command = [sys.executable, "-m", "mlxctl", "logs"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "2026-11-21T06:31:01.000Z worker-1 loading\n"
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, "")
