"""Where files lie, who may read them, and which names are safe."""

import stat
from pathlib import Path

import platformdirs
import pytest

from mlxctl import paths
from mlxctl.errors import LaunchError, UsageError

pytestmark = pytest.mark.unit


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def deep_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose paths are too long for a socket."""
    deep = tmp_path / ("d" * 120)
    monkeypatch.setenv("MLXCTL_HOME", str(deep))
    return deep


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_home_is_the_platforms_state_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLXCTL_HOME", raising=False)
    assert paths.home() == platformdirs.user_state_path("mlxctl")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXCTL_HOME", "")
    assert paths.home() == platformdirs.user_state_path("mlxctl")


def test_a_relative_home_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLXCTL_HOME", "state")
    assert paths.home() == tmp_path / "state"


def test_a_tilde_in_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLXCTL_HOME", "~/state")
    assert paths.home() == tmp_path / "state"


def test_a_home_that_is_a_file_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="not a folder"):
        paths.home()


@pytest.mark.parametrize("value", ["~nobody-of-this-name/x", "/" + "x" * 5000], ids=["no such user", "too long"])
def test_an_impossible_home_is_a_usage_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXCTL_HOME", value)
    with pytest.raises(UsageError, match="MLXCTL_HOME is"):
        paths.home()


def test_an_unwritable_home_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXCTL_HOME", "/dev/null/mlxctl")  # not even root can create it
    with pytest.raises(UsageError, match="MLXCTL_HOME"):
        paths.make_home()


def test_a_home_without_write_permission_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UsageError, match="not writable"):
        paths.home()


def test_saying_where_creates_nothing(home: Path) -> None:
    paths.cluster_dir("local"), paths.logs_dir("local"), paths.history_file(), paths.control_socket("local")
    assert not home.exists()


def test_the_folders_of_a_cluster_are_private(home: Path) -> None:
    path = paths.make_cluster_dir("local")
    assert path == home / "clusters" / "local"
    assert [mode(folder) for folder in (home, home / "clusters", path, path / "logs")] == [0o700] * 4


def test_a_cluster_folder_that_others_could_read_is_closed(home: Path) -> None:
    (home / "clusters" / "local").mkdir(parents=True, mode=0o755)
    assert mode(paths.make_cluster_dir("local")) == 0o700


def test_a_file_where_a_folder_should_be_is_a_usage_error(home: Path) -> None:
    home.mkdir()
    (home / "clusters").touch()
    with pytest.raises(UsageError, match="cannot create"):
        paths.make_cluster_dir("local")


def test_every_file_of_a_cluster_is_in_its_folder(home: Path) -> None:
    folder = paths.cluster_dir("local")
    files = [paths.state_file("local"), paths.lock_file("local"), paths.profile_file("local")]
    assert [file.name for file in files] == ["state.json", "lock", "profile.json"]
    assert {file.parent for file in files} == {folder}
    assert paths.log_file("local", "mini1") == folder / "logs" / "mini1.log"


@pytest.mark.parametrize("name", ["a", "4xm4", "my.cluster_1-x", "x" * 63])
def test_a_safe_name_has_no_fault(name: str) -> None:
    assert paths.name_fault(name) is None


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\n", "ü", "x" * 64, "a\0"])
def test_a_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    assert paths.name_fault(name)
    with pytest.raises(UsageError, match="cluster name"):
        paths.cluster_dir(name)


def test_the_control_socket_is_in_the_clusters_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXCTL_HOME", "/var/mlxctl")
    assert paths.control_socket("local") == Path("/var/mlxctl/clusters/local/control.sock")


def test_a_long_home_gets_a_short_private_socket_folder(deep_home: Path) -> None:
    path = paths.make_control_socket_dir("local")
    try:
        assert len(bytes(path)) <= paths.MAX_SOCKET_PATH_BYTES
        assert not path.is_relative_to(deep_home)
        assert mode(path.parent) == 0o700
    finally:
        paths.remove_control_socket("local")
    assert not path.parent.exists()


def test_two_clusters_with_long_homes_have_different_sockets(deep_home: Path) -> None:
    assert paths.control_socket("a").parent != paths.control_socket("b").parent


def test_a_stale_control_socket_is_cleared_before_the_next(home: Path) -> None:
    paths.make_control_socket_dir("local").touch()
    assert not paths.make_control_socket_dir("local").exists()
    paths.remove_control_socket("local")


def test_removing_a_control_socket_that_is_not_there_does_nothing(home: Path, deep_home: Path) -> None:
    paths.remove_control_socket("local")


@pytest.mark.parametrize("trap", ["open", "link"])
def test_a_socket_folder_that_is_not_ours_alone_is_refused(trap: str, deep_home: Path, tmp_path: Path) -> None:
    folder = paths.control_socket("local").parent
    if trap == "open":
        folder.mkdir()
        folder.chmod(0o755)
    else:
        folder.symlink_to(tmp_path)
    try:
        with pytest.raises(LaunchError, match="belongs to us alone"):
            paths.control_socket("local")
    finally:
        folder.rmdir() if trap == "open" else folder.unlink()
