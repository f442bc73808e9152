"""What is written about a cluster, and who holds it."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlxctl import paths
from mlxctl.errors import ClusterBusy, LaunchError
from mlxctl.launch import state as state_module
from mlxctl.launch.launch import Launch
from mlxctl.launch.processes import ProcessId, boot_id, current_process
from mlxctl.launch.state import (
    ClusterLock,
    ClusterState,
    WorkerRecord,
    describe_launch,
    list_clusters,
    living,
    owner,
    read_state,
    remove_state,
    write_state,
)
from mlxctl.profile import load_profile

pytestmark = pytest.mark.unit

HOLD = """
import sys
from mlxctl.launch.state import ClusterLock
with ClusterLock("x"):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def state() -> ClusterState:
    gone = ProcessId(os.getpid(), -1.0)
    return ClusterState(
        name="x",
        phase="ready",
        boot_id=boot_id(),
        coordinator=current_process(),
        api_url="http://127.0.0.1:8100",
        model="canary",
        profile_hash="p",
        plan_hash="q",
        started_at=1.5,
        owner=owner(),
        control_socket="/run/x.sock",
        workers=(WorkerRecord("a", gone, "127.0.0.1:50100"),),
        unreached_nodes=("b",),
    )


def test_a_cluster_that_never_ran_has_no_state() -> None:
    assert read_state("x") is None


def test_what_was_written_is_read(state: ClusterState) -> None:
    write_state(state)
    assert read_state("x") == state


def test_a_later_state_replaces_the_earlier(state: ClusterState) -> None:
    write_state(state)
    write_state(replace(state, phase="draining"))
    read = read_state("x")
    assert read is not None
    assert read.phase == "draining"


def test_only_the_state_file_is_left_in_the_folder_and_only_we_can_read_it(state: ClusterState) -> None:
    write_state(state)
    assert sorted(path.name for path in paths.cluster_dir("x").iterdir()) == ["logs", "state.json"]
    assert stat.S_IMODE(paths.state_file("x").stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_earlier_state(state: ClusterState, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(state)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        with pytest.raises(LaunchError, match="No space left"):
            write_state(replace(state, phase="failed"))
    assert read_state("x") == state
    assert sorted(path.name for path in paths.cluster_dir("x").iterdir()) == ["logs", "state.json"]


def disk_full(descriptor: int) -> None:
    raise OSError(28, os.strerror(28))


def test_a_removed_state_is_gone_and_so_is_what_a_crash_left(state: ClusterState) -> None:
    write_state(state)
    (paths.cluster_dir("x") / ".state.json.new").touch()
    remove_state("x")
    assert read_state("x") is None
    assert [path.name for path in paths.cluster_dir("x").iterdir()] == ["logs"]


def test_removing_what_is_not_there_does_nothing() -> None:
    remove_state("x")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "[" * 100_000, '{"version": 1}', "\x00", '{"version": "2"}'],
    ids=["empty", "cut off", "list", "nothing in it", "deep", "incomplete", "NUL", "odd version"],
)
def test_a_broken_state_is_an_error_with_the_way_out(text: str) -> None:
    paths.make_cluster_dir("x")
    paths.state_file("x").write_text(text)
    with pytest.raises(LaunchError, match=r"state\.json is broken") as caught:
        read_state("x")
    assert caught.value.hint is not None
    assert str(paths.state_file("x")) in caught.value.hint


def test_a_state_with_unknown_keys_is_broken(state: ClusterState) -> None:
    write_state(state)
    data = json.loads(paths.state_file("x").read_text())
    paths.state_file("x").write_text(json.dumps(data | {"secret": "s"}))
    with pytest.raises(LaunchError, match="is broken"):
        read_state("x")


def test_a_state_of_a_newer_version_says_so(state: ClusterState) -> None:
    write_state(replace(state, version=2))
    with pytest.raises(LaunchError, match="newer mlxctl"):
        read_state("x")


def test_a_state_that_is_a_folder_is_an_error() -> None:
    paths.state_file("x").mkdir(parents=True)
    with pytest.raises(LaunchError, match="cannot read"):
        read_state("x")


def test_clusters_with_a_state_are_listed_in_order(state: ClusterState) -> None:
    for name in ("b", "a"):
        write_state(replace(state, name=name))
    paths.make_cluster_dir("empty")
    assert list_clusters() == ["a", "b"]


def test_without_a_home_there_are_no_clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path / "none"))
    assert list_clusters() == []


def test_the_living_are_those_that_still_run(state: ClusterState) -> None:
    assert living(state) == (current_process(),)


def test_nothing_lives_after_a_reboot(state: ClusterState) -> None:
    assert living(replace(state, boot_id="00000000-0000-0000-0000-000000000000")) == ()


def test_the_owner_is_a_user_at_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert owner().count("@") == 1
    monkeypatch.setattr("getpass.getuser", nobody)
    assert owner().startswith(f"{os.getuid()}@")


def nobody() -> str:
    raise KeyError("uid not found")


def test_a_launch_that_has_not_planned_yet_can_be_described() -> None:
    profile = load_profile(environment={})
    described = describe_launch(Launch(profile, "x", any_port=True), "starting", "", 2.0)
    assert (described.coordinator, described.phase, described.plan_hash) == (current_process(), "starting", "")
    assert (described.profile_hash, described.workers) == (profile.hash, ())


class TestLock:
    def test_it_can_be_taken_again_after_it_was_given_back(self) -> None:
        for _ in range(2):
            with ClusterLock("x"):
                pass

    def test_it_leaves_no_file(self) -> None:
        with ClusterLock("x"):
            assert paths.lock_file("x").exists()
        assert not paths.lock_file("x").exists()

    def test_two_clusters_do_not_hinder_each_other(self) -> None:
        with ClusterLock("x"), ClusterLock("y"):
            pass

    def test_the_second_comer_hears_who_holds_it(self) -> None:
        with (
            ClusterLock("x"),
            pytest.raises(ClusterBusy, match=f"process {os.getpid()} of {owner()} since"),
            ClusterLock("x"),
        ):
            pass

    def test_it_is_held_against_another_process(self) -> None:
        with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(ClusterBusy, match=f"process {other.pid} of"), ClusterLock("x"):
                pass
            other.kill()
            other.wait()
            with ClusterLock("x"):  # free, however its holder ended
                pass

    def test_a_process_started_meanwhile_does_not_keep_it(self) -> None:
        with ClusterLock("x"):
            child = subprocess.Popen(["sleep", "600"], close_fds=False)
        try:
            with ClusterLock("x"):
                pass
        finally:
            child.kill()
            child.wait()

    def test_a_holder_that_has_not_written_its_name_yet_is_just_another_process(self) -> None:
        with ClusterLock("x"):
            os.truncate(paths.lock_file("x"), 0)
            with pytest.raises(ClusterBusy, match="another process"), ClusterLock("x"):
                pass

    def test_a_lock_whose_file_its_holder_removes_as_we_come_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter([False, True])
        monkeypatch.setattr(state_module, "_is_still", lambda descriptor, path: next(answers))
        with ClusterLock("x"):
            pass

    def test_a_removed_file_is_not_still_the_lock(self) -> None:
        with ClusterLock("x"):
            path = paths.lock_file("x")
            descriptor = os.open(path, os.O_RDONLY)
            assert state_module._is_still(descriptor, path)
            path.unlink()
            assert not state_module._is_still(descriptor, path)
            path.touch()
            assert not state_module._is_still(descriptor, path)
            os.close(descriptor)

    def test_a_folder_that_vanished_does_not_hinder_giving_it_back(self) -> None:
        with ClusterLock("x"):
            paths.lock_file("x").unlink()

    def test_a_file_system_without_locks_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fcntl.flock", no_locks)
        with pytest.raises(LaunchError, match="cannot lock"), ClusterLock("x"):
            pass


def no_locks(descriptor: int, operation: int) -> None:
    raise OSError(37, os.strerror(37))
