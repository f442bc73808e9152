"""The agent as doctor talks to it, on a node over SSH or on this machine. Used by doctor's steps."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, Self

from mlxctl.errors import LaunchError
from mlxctl.launch.ssh import Remote

ANSWER_TIMEOUT_S = 30.0
END_TIMEOUT_S = 2.0
_LINE_LIMIT_BYTES = 1 << 22
# Reads the program from its own stdin, so that nothing is written to the node's disk; the rest of stdin are requests.
_LOADER = "import sys; exec(compile(sys.stdin.buffer.read(int(sys.argv[1])), 'mlxctl-doctor', 'exec'))"


class _Process(Protocol):
    """What RemoteProcess and a local one have in common."""

    async def write(self, data: bytes) -> None: ...

    async def read_line(self) -> bytes: ...

    async def end(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """`fields` as the agent said; `asked_s` and `answered_s` are this machine's Unix time before and after."""

    fields: dict[str, Any]
    asked_s: float
    answered_s: float


class Agent:
    """A running agent; one request at a time."""

    def __init__(self, process: _Process, node: str) -> None:
        self._process = process
        self._node = node
        self._turn = asyncio.Lock()

    @classmethod
    async def start_on(cls, remote: Remote, python: str) -> Self:
        """On the node behind `remote`, under `python` there. Raises LaunchError."""
        process = await remote.start([python, "-I", "-c", _LOADER, str(len(_program()))])
        return await cls._begin(_OnNode(process), remote.node.name)

    @classmethod
    async def start_here(cls, node: str) -> Self:
        """On this machine, for `node`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-c",
            _LOADER,
            str(len(_program())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT_BYTES,
        )
        return await cls._begin(_Here(process), node)

    @classmethod
    async def _begin(cls, process: _Process, node: str) -> Self:
        await process.write(_program())
        return cls(process, node)

    async def ask(self, do: str, **fields: object) -> Answer:
        """One request. Raises LaunchError where there is no answer."""
        async with self._turn:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    asked_s = time.time()
                    await self._process.write(json.dumps({"do": do, **fields}).encode() + b"\n")
                    line = await self._process.read_line()
                    return Answer(json.loads(line), asked_s, time.time())
            except TimeoutError as error:
                raise LaunchError(f"doctor's probe does not answer ({do})", node=self._node) from error
            except (ValueError, OSError) as error:
                raise LaunchError(f"doctor's probe ended early ({do})", node=self._node) from error

    async def end(self) -> None:
        """Return when it has ended, or does not answer any more."""
        with suppress(TimeoutError, LaunchError, OSError):
            async with asyncio.timeout(END_TIMEOUT_S):
                await self._process.end()


class _OnNode:
    def __init__(self, process: Any) -> None:
        self._process = process

    async def write(self, data: bytes) -> None:
        await self._process.write(data)

    async def read_line(self) -> bytes:
        return bytes(await self._process.stdout.readline())

    async def end(self) -> None:
        self._process.close_stdin()
        await self._process.wait()


class _Here:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def read_line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


@cache
def _program() -> bytes:
    return (files("mlxctl.launch.doctor") / "agent.py").read_bytes()
