"""One worker as a process on this machine: started, certified, logged, ended. Used by the spawn phase."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from mlxctl.errors import LaunchError
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.launch.log_files import NodeLog
from mlxctl.launch.processes import ProcessId, process_id

HANDSHAKE_TIMEOUT_S = 60.0
STOP_GRACE_S = 2.0
LINE_LIMIT_BYTES = 1 << 20


class WorkerProcess:
    """A running worker of `node`, listening at `address`."""

    def __init__(self, node: str, process: asyncio.subprocess.Process, log: NodeLog) -> None:
        self.node = node
        self.log = log
        self.address = ""
        self.id: ProcessId = process_id(process.pid)
        self._process = process
        self._pump = asyncio.create_task(self._copy_stderr(), name=f"log-{node}")

    @classmethod
    async def start(
        cls,
        node: str,
        name: str,
        host: str,
        port: int,
        port_tries: int,
        log: NodeLog,
        *,
        separate_store: Path | None = None,
    ) -> WorkerProcess:
        """Start a worker whose certificate will say `name`; `port` 0 lets it choose. With a `separate_store` it acts as
        another machine's: weights come from there, never from this machine's folders of models.
        """
        arguments = ["--name", name, "--host", host, "--port", str(port), "--port-tries", str(port_tries)]
        if separate_store is not None:
            arguments += ["--store", str(separate_store), "--store-only"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mlxctl",
            "worker",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT_BYTES,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": "NONE"},  # its errors reach us as statuses
        )
        return cls(node, process, log)

    async def certify(self, authority: CertificateAuthority, name: str, host: str) -> None:
        """Answer the worker's certificate request; return once it listens. Raises LaunchError, TimeoutError."""
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            request = await self._hear("request")
            certificate = authority.sign(str(request).encode(), name)
            answer = {"certificate": certificate.decode(), "authority": authority.certificate_pem.decode()}
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(answer).encode() + b"\n")
            await self._process.stdin.drain()
            port = await self._hear("port")
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def end(self) -> None:
        """Close stdin, then TERM, then KILL; return when the process is gone and its log is complete."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for kill in (self._process.terminate, self._process.kill):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._process.wait()
            if self._process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                kill()
        await self._process.wait()
        await self._pump
        self.log.close()

    async def wait(self) -> int:
        """The exit status, once there is one."""
        return await self._process.wait()

    async def _hear(self, key: str) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        try:
            message = json.loads(line)
            if "error" in message:
                raise LaunchError(message["error"], hint=message["hint"], node=self.node)
            return message[key]
        except (ValueError, KeyError) as error:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._process.wait()
                    await self._pump
            last = self.log.tail[-1] if self.log.tail else f"exit status {self._process.returncode}"
            raise LaunchError(f"the worker did not start: {last}", node=self.node) from error

    async def _copy_stderr(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # a line over the limit: its head was dropped, go on with the rest
                continue
            if not line:
                return
            self.log.write(line.decode(errors="replace").rstrip())
