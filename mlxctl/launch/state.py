"""What runs for a cluster, on disk: state.json and the lock. Written by the daemon, read by up, down, status, chat."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mlxctl import paths
from mlxctl.errors import ClusterBusy, LaunchError
from mlxctl.launch.processes import ProcessId, boot_id, current_process, is_alive

if TYPE_CHECKING:
    from mlxctl.launch.launch import Launch
    from mlxctl.launch.worker_process import WorkerProcess

STATE_VERSION = 1
PRIVATE_PREFIX = "private-"  # names of clusters that belong to the process that brought them up

Phase = Literal["starting", "ready", "draining", "failed"]


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One worker process; `address` is host:port of its gRPC server, empty until it listens. `host` is empty where it
    runs on this machine; else `boot_id` is that machine's.
    """

    node: str
    process: ProcessId
    address: str
    host: str = ""
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What `down` and `status` need to find a cluster, without secrets. `started_at` is Unix time in seconds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: str
    phase: Phase
    boot_id: str
    coordinator: ProcessId
    api_url: str
    model: str
    profile_hash: str
    plan_hash: str
    started_at: float
    owner: str
    control_socket: str
    workers: tuple[WorkerRecord, ...] = ()
    unreached_nodes: tuple[str, ...] = ()
    version: int = STATE_VERSION


def describe_launch(launch: Launch, phase: Phase, api_url: str, started_at: float) -> ClusterState:
    """The state of a cluster that this process coordinates."""
    return ClusterState(
        name=launch.name,
        phase=phase,
        boot_id=boot_id(),
        coordinator=current_process(),
        api_url=api_url,
        model=launch.profile.model,
        profile_hash=launch.profile.hash,
        plan_hash=launch.plan.hash if launch.plan else "",
        started_at=started_at,
        owner=owner(),
        control_socket=str(paths.control_socket(launch.name)),
        workers=tuple(_record(launch, worker) for worker in launch.workers),
        unreached_nodes=tuple(sorted(launch.unreached)),
    )


def _record(launch: Launch, worker: WorkerProcess) -> WorkerRecord:
    machine = launch.machine(worker.node)
    if machine is None:
        return WorkerRecord(worker.node, worker.id, worker.address)
    assert machine.look is not None
    return WorkerRecord(worker.node, worker.id, worker.address, machine.node.host, machine.look.boot_id)


def write_state(state: ClusterState) -> None:
    """Replace the state file in one step: a reader sees the old one or the new one. Raises LaunchError, UsageError."""
    paths.make_cluster_dir(state.name)
    path = paths.state_file(state.name)
    new = _unfinished(path)
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(state), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise LaunchError(f"cannot write {path}: {error.strerror}") from error


def read_state(name: str) -> ClusterState | None:
    """What was last written for the cluster `name`, None if nothing. Raises LaunchError for a file that is not ours."""
    path = paths.state_file(name)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LaunchError(f"cannot read {path}: {error.strerror}") from error
    _refuse_newer(text, path)
    try:
        return TypeAdapter(ClusterState).validate_json(text)
    except ValidationError as error:
        hint = f"if nothing of this cluster runs any more, remove it: rm '{path}'"
        raise LaunchError(f"{path} is broken", hint=hint) from error


def remove_state(name: str) -> None:
    """Forget the cluster `name`; its logs stay. Nothing there: nothing done."""
    path = paths.state_file(name)
    path.unlink(missing_ok=True)
    _unfinished(path).unlink(missing_ok=True)


def list_clusters() -> list[str]:
    """Names of the clusters that have a state, running or left behind, in order."""
    found = paths.clusters_dir().glob("*/state.json")
    return sorted(path.parent.name for path in found if paths.name_fault(path.parent.name) is None)


def living(state: ClusterState) -> tuple[ProcessId, ...]:
    """The processes of `state` that still run on this machine: none after a reboot, never a node's."""
    if state.boot_id != boot_id():
        return ()
    processes = (state.coordinator, *(worker.process for worker in state.workers if not worker.host))
    return tuple(process for process in processes if is_alive(process))


def owner() -> str:
    """This user on this machine, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class ClusterLock:
    """Holds the cluster `name` for this process until the block ends or the process does, however it ends.

    Not inherited by processes started meanwhile. Entering raises ClusterBusy, saying who holds it, LaunchError or
    UsageError.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._path = paths.lock_file(name)
        self._descriptor = -1

    def __enter__(self) -> Self:
        paths.make_cluster_dir(self._name)
        while self._descriptor < 0:
            self._descriptor = self._try()
        me = current_process()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {"pid": me.pid, "start_time": me.start_time, "owner": owner(), "since": since}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the cluster's folder may be gone
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def _try(self) -> int:
        """A descriptor that holds the lock; -1 where its holder removed the file as we came: try again."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(descriptor, self._path):
                return descriptor
        except BlockingIOError as error:
            busy = self._busy(descriptor)
            os.close(descriptor)
            raise busy from error
        except OSError as error:
            os.close(descriptor)
            raise LaunchError(f"cannot lock {self._path}: {error.strerror}") from error
        os.close(descriptor)
        return -1

    def _busy(self, descriptor: int) -> ClusterBusy:
        try:
            holder = json.loads(os.pread(descriptor, 4096, 0))
            by = f"process {holder['pid']} of {holder['owner']} since {holder['since']}"
        except (ValueError, KeyError, TypeError):  # it has the lock, but has not written yet
            by = "another process"
        return ClusterBusy(f"cluster {self._name} is held by {by}", hint=f"mlxctl status {self._name}")


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _unfinished(path: Path) -> Path:
    """One fixed name: only the lock's holder writes, and what a crash leaves is overwritten."""
    return path.with_name(".state.json.new")


def _refuse_newer(text: bytes, path: Path) -> None:
    try:
        version = json.loads(text)["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # broken: said by the caller
    if isinstance(version, int) and version > STATE_VERSION:
        hint = "use that mlxctl, or upgrade this one"
        raise LaunchError(f"{path} was written by a newer mlxctl (version {version})", hint=hint)
