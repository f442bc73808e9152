"""One worker as a process, here or on a node: started, certified, logged, ended. Used by the spawn phase."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from mlxctl.errors import LaunchError
from mlxctl.launch import node_shell
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.launch.log_files import NodeLog
from mlxctl.launch.processes import ProcessId, process_id

if TYPE_CHECKING:
    from mlxctl.launch.provision import Installed
    from mlxctl.launch.ssh import Remote, RemoteProcess

HANDSHAKE_TIMEOUT_S = 60.0
STOP_GRACE_S = 2.0
LINE_LIMIT_BYTES = 1 << 20
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": "NONE"}  # gRPC's errors reach us as statuses
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_CHUNK_BYTES = 1 << 16


class ByteStream(Protocol):
    """What asyncio's and asyncssh's readers have in common."""

    async def read(self, n: int) -> bytes: ...


class Process(Protocol):
    """A process that can be talked to, wherever it runs."""

    id: ProcessId
    stdout: ByteStream
    stderr: ByteStream

    async def write(self, data: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    async def wait(self) -> int | None: ...

    async def kill(self) -> None:
        """TERM, then KILL; return when it is verified to be gone. Raises LaunchError where that cannot be done."""


class LocalProcess:
    """A child of this process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self.id = process_id(process.pid)
        self.stdout: ByteStream = process.stdout
        self.stderr: ByteStream = process.stderr
        self._stdin = process.stdin
        self._process = process

    @classmethod
    async def start(cls, arguments: Sequence[str], settings: Mapping[str, str] = NO_SETTINGS) -> LocalProcess:
        """Run `mlxctl` with `arguments`, with `settings` in its environment."""
        command = [sys.executable, "-m", "mlxctl", *arguments]
        pipe = asyncio.subprocess.PIPE
        environment = {**os.environ, **ENVIRONMENT, **settings}
        return cls(
            await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        )

    async def write(self, data: bytes) -> None:
        self._stdin.write(data)
        await self._stdin.drain()

    def close_stdin(self) -> None:
        self._stdin.close()

    async def wait(self) -> int:
        return await self._process.wait()

    async def kill(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._process.wait()
                    return
        await self._process.wait()


class NodeProcess:
    """A process on the node behind `remote`."""

    def __init__(self, remote: Remote, process: RemoteProcess) -> None:
        self.id = process.id
        self.stdout: ByteStream = process.stdout
        self.stderr: ByteStream = process.stderr
        self.write = process.write
        self.close_stdin = process.close_stdin
        self.wait = process.wait
        self._remote = remote

    @classmethod
    async def start(cls, remote: Remote, installed: Installed, arguments: Sequence[str]) -> NodeProcess:
        """Run the node's `mlxctl` with `arguments`, and never a folder of that name in its home. Raises LaunchError."""
        settings = [f"{name}={value}" for name, value in (ENVIRONMENT | {"MLXCTL_HOME": installed.home}).items()]
        command = ["env", *settings, installed.python, "-P", "-m", "mlxctl", *arguments]
        return cls(remote, await remote.start(command))

    async def kill(self) -> None:
        ended = await node_shell.end(self._remote, [self.id], STOP_GRACE_S)
        if ended.left:
            hint = f"there: kill -9 {self.id.pid}"
            raise self._remote.error(f"its worker, process {self.id.pid}, cannot be ended", hint=hint)


class LineReader:
    """Lines of a stream; of one longer than the limit only the end."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._read = bytearray()

    async def line(self) -> str | None:
        """The next one without its end; None at the end of the stream."""
        while (end := self._read.find(b"\n")) < 0:
            try:
                chunk = await self._stream.read(_CHUNK_BYTES)
            except OSError:
                chunk = b""
            if not chunk:
                return None
            self._read += chunk
            del self._read[:-LINE_LIMIT_BYTES]
        line = self._read[:end].decode(errors="replace").rstrip()
        del self._read[: end + 1]
        return line


class WorkerProcess:
    """A running worker of `node`, listening at `address` once it is certified."""

    def __init__(self, node: str, process: Process, log: NodeLog) -> None:
        self.node = node
        self.log = log
        self.address = ""
        self.id = process.id
        self._process = process
        self._stdout = LineReader(process.stdout)
        self._pump = asyncio.create_task(self._copy_stderr(), name=f"log-{node}")

    async def certify(self, authority: CertificateAuthority, name: str, host: str) -> None:
        """Answer the worker's certificate request; return once it listens. Raises LaunchError, TimeoutError."""
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            request = await self._hear("request")
            certificate = authority.sign(str(request).encode(), name)
            answer = {"certificate": certificate.decode(), "authority": authority.certificate_pem.decode()}
            await self._process.write(json.dumps(answer).encode() + b"\n")
            port = await self._hear("port")
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def end(self) -> None:
        """Close stdin, then TERM, then KILL; return when the process is gone and its log is complete. Raises
        LaunchError where that cannot be verified.
        """
        self._process.close_stdin()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._process.wait()
            await self._process.kill()
            await self._pump
        finally:
            self._pump.cancel()
            self.log.close()

    async def _hear(self, key: str) -> Any:
        while (line := await self._stdout.line()) is not None:
            message = _message(line)
            if "error" in message:
                raise LaunchError(message["error"], hint=message["hint"], node=self.node)
            if key in message:
                return message[key]
        status: int | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_S):
                status = await self._process.wait()
                await self._pump
        if status is None:
            raise LaunchError("the connection broke, or its worker was killed, as it started", node=self.node)
        last = self.log.tail[-1] if self.log.tail else f"exit status {status}"
        raise LaunchError(f"the worker did not start: {last}", node=self.node)

    async def _copy_stderr(self) -> None:
        lines = LineReader(self._process.stderr)
        while (line := await lines.line()) is not None:
            self.log.write(line)


def _message(line: str) -> dict[str, Any]:
    """What the worker says; nothing in a line that is not its own (a shell's greeting)."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
