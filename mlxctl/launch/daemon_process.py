"""Starts the coordinator's daemon and follows it until it serves. Used by `mlxctl up` and the Python API."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Self

from mlxctl.errors import LaunchError, MlxctlError, TimedOut
from mlxctl.launch.events import FailedEvent, PhaseEvent, ReadyEvent, decode
from mlxctl.paths import log_file
from mlxctl.stdin import read_line

END_GRACE_S = 30.0  # nodes that do not answer take their time

OnEvent = Callable[[PhaseEvent], None]


@dataclass(frozen=True, slots=True)
class DaemonOrder:
    """What the launcher asks of the daemon, as the first line of its stdin. `attached`: it ends with its launcher;
    `wheelhouse`: the folder of what nodes install.
    """

    profile_json: str
    name: str
    any_port: bool
    attached: bool
    accept_new_host_keys: bool = False
    wheelhouse: str | None = None

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, descriptor: int) -> Self:
        """The order on the first line of `descriptor`."""
        return cls(**json.loads(read_line(descriptor)))


class DaemonProcess:
    """A coordinator as a child of this process, in a session of its own so that Ctrl-C reaches only its launcher."""

    def __init__(self, order: DaemonOrder) -> None:
        self.name = order.name
        self._late = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlxctl", "daemon"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode())
        self._process.stdin.flush()

    def follow(self, on_event: OnEvent, timeout_s: float | None) -> ReadyEvent:
        """Wait until the cluster serves. Raises what made it fail, or TimedOut; then nothing of it is left."""
        timer = threading.Timer(timeout_s or 0.0, self._give_up)
        if timeout_s is not None:
            timer.start()
        failed: FailedEvent | None = None
        try:
            for event in self._events():
                if isinstance(event, ReadyEvent):
                    return event
                if isinstance(event, FailedEvent):
                    failed = event
                else:
                    on_event(event)
        except BaseException:
            self.end()
            raise
        finally:
            timer.cancel()
        self._process.wait()
        self.end()
        if self._late:
            raise TimedOut(f"the cluster was not ready in {timeout_s:g} s; nothing of it is left")
        raise self._error(failed)

    def _give_up(self) -> None:
        self._late = True
        self._process.terminate()

    def detach(self) -> None:
        """Let a ready cluster go on without this process."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.returncode = 0  # not ours to wait for any more

    def wait(self) -> None:
        """Return when the coordinator has ended."""
        self._process.wait()

    def end(self) -> None:
        """Have the cluster taken down (a private one ends with its stdin) and wait for it."""
        if self._process.poll() is None:
            self._process.terminate()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _events(self) -> Iterator[PhaseEvent | ReadyEvent | FailedEvent]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = decode(line.decode())
            if event is not None:
                yield event

    def _error(self, failed: FailedEvent | None) -> MlxctlError:
        if failed is not None:
            return failed.to_error()
        log = log_file(self.name, "coordinator")
        return LaunchError(f"the coordinator ended with status {self._process.returncode}", hint=f"see {log}")
