"""`mlxctl status` tells the truth, in its words and in its exit code."""

from __future__ import annotations

import json

import pytest

from mlxctl import paths
from tests.scripted_api import STATUS, ScriptedApi
from tests.unit.cli.conftest import MakeCluster, Mlxctl

pytestmark = pytest.mark.unit


def test_the_only_cluster_is_shown_stage_by_stage(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster()
    outcome = mlxctl("status")
    assert outcome.code == 0
    assert outcome.out.startswith("scripted is ready: canary at http://127.0.0.1:1/v1\n")
    rows = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert "up 1 min 01 s, context 4096, 8 at once, epoch 1" in rows
    assert "requests: 1 running, 0 waiting, 3 completed, 0 failed, 0 cancelled" in rows
    assert "speed: 12.0 tok/s, 99 tokens so far" in rows
    assert "decode steps: 28.0 ms each, 26.0 computing, 1.5 on the wire" in rows
    assert "1 worker-2 4-7 3.0 MiB 1.0 MiB 5.0 MiB/1.0 GiB 50% ready" in rows


def test_it_fits_a_terminal_of_80_columns(
    mlxctl: Mlxctl, make_cluster: MakeCluster, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    make_cluster()
    sizes = {"weight_bytes": 812 << 20, "kv_bytes": 512 << 20, "active_bytes": 950 << 20, "budget_bytes": 128 << 30}
    api.status = {**STATUS, "stages": [{**STATUS["stages"][0], **sizes, "busy_share": 1.0}]}
    out = mlxctl("status").out
    assert " ".join(out.splitlines()[-1].split()) == "0 worker-1 0-3 812.0 MiB 512.0 MiB 950.0 MiB/128.0 GiB 100% ready"
    assert max(map(len, out.splitlines())) <= 80


def test_json_is_the_status_document(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster()
    assert json.loads(mlxctl("status", "local", "--json").out) == STATUS


def test_nothing_running_exits_with_3(mlxctl: Mlxctl) -> None:
    outcome = mlxctl("status")
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err == "error: no cluster is running\n  hint: mlxctl up\n"


def test_an_unknown_cluster_exits_with_3(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster()
    outcome = mlxctl("status", "nobody")
    assert outcome.code == 3
    assert "no cluster named nobody is running" in outcome.err


@pytest.mark.parametrize("arguments", [("status",), ("status", "local")])
def test_a_dead_coordinator_is_told_with_the_way_to_clean_up(
    mlxctl: Mlxctl, make_cluster: MakeCluster, arguments: tuple[str, ...]
) -> None:
    make_cluster(alive=False)
    outcome = mlxctl(*arguments)
    assert outcome.code == 3
    assert outcome.err == "error: the coordinator of local is gone\n  hint: mlxctl down local\n"


def test_a_degraded_cluster_exits_with_5_and_says_why(
    mlxctl: Mlxctl, make_cluster: MakeCluster, api: ScriptedApi
) -> None:
    make_cluster()
    api.status = {**STATUS, "state": "degraded", "problem": "stage 1 was lost"}
    outcome = mlxctl("status")
    assert outcome.code == 5
    assert "problem: stage 1 was lost" in outcome.out


def test_a_cluster_that_comes_up_is_not_running_yet(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster(phase="starting")
    outcome = mlxctl("status")
    assert (outcome.code, outcome.out) == (3, "local is starting\n")


def test_several_clusters_are_listed_with_their_state(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster("one")
    make_cluster("two", phase="starting")
    make_cluster("three", alive=False)
    outcome = mlxctl("status")
    rows = [line.split()[:2] for line in outcome.out.splitlines()]
    assert outcome.code == 0
    assert all(row in rows for row in (["scripted", "ready"], ["two", "starting"], ["three", "gone"]))


def test_a_list_of_clusters_is_a_document_too(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster("one")
    make_cluster("two")
    document = json.loads(mlxctl("status", "--json").out)
    assert document["schema"] == "mlxctl.clusters/1"
    assert [cluster["stages"] for cluster in document["clusters"]] == [2, 2]


def test_watching_in_a_pipe_gives_a_line_for_each_look(
    mlxctl: Mlxctl, make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cluster()
    pauses: list[float] = []

    def pause(seconds_s: float) -> None:
        pauses.append(seconds_s)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("mlxctl.cli.status.time.sleep", pause)
    outcome = mlxctl("status", "--watch", "--interval", "0.5", "--json")
    assert (outcome.code, pauses) == (130, [0.5, 0.5])
    assert [json.loads(line)["cluster"] for line in outcome.out.splitlines()] == ["scripted", "scripted"]


def test_an_unknown_name_is_answered_with_those_that_run(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster("one")
    make_cluster("two")
    assert mlxctl("status", "nope").err == "error: no cluster named nope is running\n  hint: running: one, two\n"


def test_an_interval_without_watching_is_refused(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster()
    outcome = mlxctl("status", "--interval", "2")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--interval belongs to --watch" in outcome.err


@pytest.mark.parametrize("columns", [50, 40])
def test_a_narrow_terminal_gets_fewer_columns_rather_than_folded_ones(
    mlxctl: Mlxctl, make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    make_cluster()
    out = mlxctl("status").out
    row = out.splitlines()[-1]
    assert row.split()[:3] == ["1", "worker-2", "4-7"] and row.split()[-1] == "ready"
    assert max(map(len, out.splitlines())) <= columns


def test_a_lost_stage_is_shown_with_the_last_lines_of_its_log(
    mlxctl: Mlxctl, make_cluster: MakeCluster, api: ScriptedApi
) -> None:
    make_cluster("scripted")
    paths.make_cluster_dir("scripted")
    lines = [f"2026-11-21T06:31:0{second}.000Z line {second}\n" for second in range(8)]
    paths.log_file("scripted", "worker-2").write_text("".join(lines), encoding="utf-8")
    stages = [STATUS["stages"][0], {**STATUS["stages"][1], "state": "lost"}]
    api.status = {**STATUS, "state": "degraded", "problem": "stage 1 was lost", "stages": stages}
    out = mlxctl("status").out.splitlines()
    assert out[-6:] == ["last lines of worker-2's log:", *(f"  | line {second}" for second in range(3, 8))]
