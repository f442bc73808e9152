"""Where our files lie: state, logs, history, sockets. Called by profile, launch, chat and the command line.

    <home>/history
    <home>/store/<key of a model>/            weights that were sent to this node (mlxctl/worker/layer_store.py)
    <home>/links.json                         links that bench measured (mlxctl/launch/measured_links.py)
    <home>/known_hosts                        host keys that `up --accept-new-host-keys` accepted
    <home>/hub/models--<org>--<name>/         what is known of models on a hub (mlxctl/checkpoint/hub.py)
    <home>/hashes/<fingerprint>.json          hashes of the models that this machine has sent
    <home>/wheelhouse/                        wheels for nodes, downloaded here (mlxctl/launch/provision/wheelhouse.py)
    <home>/{venvs, wheels, incoming}/         what was installed on this node (mlxctl/launch/provision/install.py)
    <home>/clusters/<name>/{state.json, lock, profile.json, control.sock, logs/<node>.log, logs/coordinator.log}

`*_dir`, `*_file` and `control_socket` only say where; `make_*` create, always 0700.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

import platformdirs

from mlxctl.errors import LaunchError, UsageError

HOME_VARIABLE = "MLXCTL_HOME"
MAX_NAME_LENGTH = 63  # a DNS label, and below the 64 of a certificate's common name
MAX_SOCKET_PATH_BYTES = 100  # macOS takes 103 and a NUL, Linux 107
SHORT_SOCKET_ROOT = Path("/tmp")  # noqa: S108 - not $TMPDIR, which differs between shells; ours by owner and mode

_SAFE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")


def name_fault(name: str) -> str | None:
    """What is wrong with `name` as a file and certificate name of a cluster or node; None if nothing is."""
    if _SAFE_NAME.fullmatch(name):
        return None
    if len(name) > MAX_NAME_LENGTH:
        return f"is longer than {MAX_NAME_LENGTH} characters"
    return "must be letters, digits, . _ and -, and start with a letter or digit"


def home() -> Path:
    """The folder of everything we keep: MLXCTL_HOME, else the platform's state folder. Raises UsageError."""
    value = os.environ.get(HOME_VARIABLE)
    if not value:
        return platformdirs.user_state_path("mlxctl")
    hint = f"set {HOME_VARIABLE} to a folder that you can write to, or unset it"
    try:
        path = Path(value).expanduser().absolute()
        if path.exists() and not path.is_dir():
            raise UsageError(f"{HOME_VARIABLE} is {value!r}, which is not a folder", hint=hint)
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            raise UsageError(f"{HOME_VARIABLE} is {value!r}, which is not writable", hint=hint)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{HOME_VARIABLE} is {value!r}: {_reason(error)}", hint=hint) from error
    return path


def clusters_dir() -> Path:
    """The folder that holds one folder per cluster."""
    return home() / "clusters"


def cluster_dir(name: str) -> Path:
    """Folder of the cluster `name`. Raises UsageError for a name that would leave the folder."""
    if fault := name_fault(name):
        raise UsageError(f"the cluster name {name[: MAX_NAME_LENGTH + 1]!r} {fault}")
    return clusters_dir() / name


def logs_dir(name: str) -> Path:
    """Folder of the logs of the cluster `name`."""
    return cluster_dir(name) / "logs"


def log_file(name: str, node: str) -> Path:
    """Log of one node (or of "coordinator") of the cluster `name`; the one before it ends in `.1`."""
    return logs_dir(name) / f"{node}.log"


def state_file(name: str) -> Path:
    """What runs for the cluster `name`: see mlxctl.launch.state."""
    return cluster_dir(name) / "state.json"


def lock_file(name: str) -> Path:
    """Held by whoever brings the cluster `name` up, serves it or takes it down."""
    return cluster_dir(name) / "lock"


def profile_file(name: str) -> Path:
    """The profile that the cluster `name` was brought up with, as JSON."""
    return cluster_dir(name) / "profile.json"


def store_dir() -> Path:
    """Where a worker keeps weights that were sent to it, unless it is told another folder."""
    return home() / "store"


def random_dir() -> Path:
    """Shapes of well-known models whose weights are drawn where they run."""
    return home() / "random"


def hub_dir() -> Path:
    """What is known of models on a hub: everything but their weights."""
    return home() / "hub"


def hashes_dir() -> Path:
    """What hashing models has found, so that each is hashed once only."""
    return home() / "hashes"


def known_hosts_file() -> Path:
    """Host keys that were new and accepted; the user's own known_hosts files are only read."""
    return home() / "known_hosts"


def links_file() -> Path:
    """What bench measured of the links between nodes, for the planner."""
    return home() / "links.json"


def wheelhouse_dir() -> Path:
    """Wheels that were downloaded for nodes; `up --wheelhouse` names another folder."""
    return home() / "wheelhouse"


def history_file() -> Path:
    """What was typed into `chat`."""
    return home() / "history"


def make_home() -> Path:
    """Create the home folder. Raises UsageError where that is impossible."""
    path = home()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        hint = f"set {HOME_VARIABLE} to a folder that you can write to"
        raise UsageError(f"cannot create {path}: {_reason(error)}", hint=hint) from error
    return path


def make_cluster_dir(name: str) -> Path:
    """Create the folder of the cluster `name` and its logs folder. Raises UsageError where that is impossible."""
    path = cluster_dir(name)
    make_home()
    for folder in (path.parent, path, path / "logs"):
        _make_private(folder)
    return path


def control_socket(name: str) -> Path:
    """Where the coordinator of the cluster `name` listens for control.

    In the cluster's folder where that path is short enough for a Unix socket, else in a private folder under /tmp.
    Raises LaunchError if that folder is there but not private to us: somebody else could answer in our name.
    """
    path = cluster_dir(name) / "control.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    folder = _short_socket_dir(name)
    with suppress(FileNotFoundError):
        _require_private(folder)
    return folder / "control.sock"


def make_control_socket_dir(name: str) -> Path:
    """Create the control socket's folder; the socket's path, free to bind, for the lock's holder. Raises as above."""
    make_cluster_dir(name)
    path = control_socket(name)
    _make_private(path.parent)
    _require_private(path.parent)
    path.unlink(missing_ok=True)
    return path


def remove_control_socket(name: str) -> None:
    """Remove the control socket and, if it had one, its folder under /tmp. Nothing there: nothing done."""
    path = control_socket(name)
    path.unlink(missing_ok=True)
    if path.parent == _short_socket_dir(name):
        with suppress(FileNotFoundError):
            path.parent.rmdir()


def _short_socket_dir(name: str) -> Path:
    """One folder per cluster, so that removing it never races with another cluster's start."""
    digest = hashlib.sha256(os.fsencode(cluster_dir(name))).hexdigest()[:12]
    return SHORT_SOCKET_ROOT / f"mlxctl-{os.getuid()}-{digest}"


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid == os.getuid():
            folder.chmod(0o700)
    except OSError as error:
        raise UsageError(f"cannot create {folder}: {_reason(error)}") from error


def _require_private(folder: Path) -> None:
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        hint = f"look at who made it, remove it, or set {HOME_VARIABLE} to a shorter path"
        raise LaunchError(f"{folder} is not a folder that belongs to us alone", hint=hint)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
