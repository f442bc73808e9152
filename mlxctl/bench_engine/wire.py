"""Figures of the wire: echoes and activations over a stream like a stage's, and frames through workers that compute
nothing. Called by figures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self

import grpc

from mlxctl.bench.pinning import cores, pin
from mlxctl.bench.report import EngineFigure
from mlxctl.bench_engine.echo import EPOCH, METHOD, SERVICE
from mlxctl.bench_engine.figure import plain
from mlxctl.bench_engine.pipeline import launched, local_profile
from mlxctl.coordinator.pipeline import Pipeline
from mlxctl.errors import LaunchError, MlxctlError
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.rpc import shard_pb2
from mlxctl.wire.identity import Identity, PrivateKey
from mlxctl.wire.parts import Buffer, join, split
from mlxctl.wire.service import COORDINATOR_NAME, OPTIONS, channel, stage_name
from mlxctl.wire.threads import switch_quickly

ECHO_BYTES = (4 << 10, 16 << 10)
ECHOES = 300
ACTIVATION_BYTES = 64 << 20
ACTIVATIONS = 6
TOKENS = 300
WARM_UP = 30
ANSWER_TIMEOUT_S = 30.0
CANARY = "canary"
NO_STEP = "nothing to compute"

_SERVER = stage_name("bench", 0)


async def wire_figures(stages: int, rounds: int) -> AsyncIterator[EngineFigure]:
    """All of them, over loopback. Raises LaunchError."""
    switch_quickly()
    for figure in await asyncio.to_thread(_stream_figures, rounds):
        yield figure
    async with launched(local_profile(stages, CANARY), pinned=True) as launch:
        relay = Relay(launch.connections)
        try:
            await asyncio.to_thread(relay.trips_us, WARM_UP)
            trips = [statistics.median(await asyncio.to_thread(relay.trips_us, TOKENS)) for _ in range(rounds)]
        finally:
            await asyncio.to_thread(relay.close)
    name = f"a token through {stages} workers that compute nothing, mTLS, p50"
    yield plain("wire", name, "round trip", "µs", trips, wanted=500 if stages == 2 else None, better="lower")


def _stream_figures(rounds: int) -> list[EngineFigure]:
    data = bytes(range(256)) * (ACTIVATION_BYTES // 256)
    echoes: dict[int, list[float]] = {size_bytes: [] for size_bytes in ECHO_BYTES}
    rates: dict[bool, list[float]] = {True: [], False: []}
    with Echo(tls=True) as safe, Echo(tls=False) as bare:
        for each in (safe, bare):
            each.trips_us(data[:4096], WARM_UP)
            each.trips_us(data, 1)
        for _ in range(rounds):
            for size_bytes, found in echoes.items():
                found.append(statistics.median(safe.trips_us(data[:size_bytes], ECHOES)))
            for tls, link in ((True, safe), (False, bare)):
                rates[tls].append(ACTIVATION_BYTES / statistics.median(link.trips_us(data, ACTIVATIONS)) / 1e3)
    figures = [
        plain(
            "wire",
            f"echo of {size_bytes >> 10} KiB on a stream, mTLS, p50",
            "round trip",
            "µs",
            values,
            wanted=250,
            better="lower",
        )
        for size_bytes, values in echoes.items()
    ]
    for tls, wanted in ((True, 0.6), (False, 1.2)):
        name = f"an activation of {ACTIVATION_BYTES >> 20} MiB one way, {'mTLS' if tls else 'plain'}"
        figures.append(plain("wire", name, "until it is whole", "GB/s", rates[tls], wanted=wanted))
    return figures


class Echo:
    """A stream of parts to a process that sends them back; see echo.py. A context manager."""

    def __init__(self, *, tls: bool) -> None:
        self._tls = tls

    def __enter__(self) -> Self:
        authority = CertificateAuthority()
        server, client = _identity(authority, _SERVER), _identity(authority, COORDINATOR_NAME)
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "mlxctl.bench_engine.echo"]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        address = f"127.0.0.1:{self._port(_pems(server) if self._tls else {})}"
        pin(self._process.pid, [1 % len(cores())])
        self._channel = (
            channel(address, _SERVER, client) if self._tls else grpc.insecure_channel(address, options=OPTIONS)
        )
        self._frames: queue.SimpleQueue[Sequence[Buffer] | None] = queue.SimpleQueue()
        self._call = self._channel.stream_stream(f"/{SERVICE}/{METHOD}")(self._parts())
        self._answers = join(self._call, epoch=EPOCH)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._frames.put(None)
        self._call.cancel()
        self._channel.close()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def trips_us(self, data: bytes, count: int) -> list[float]:
        """Times from handing `data` over until the answer to it is here."""
        return [self._trip_us(data) for _ in range(count)]

    def _trip_us(self, data: bytes) -> float:
        began_s = time.perf_counter()
        self._frames.put([data])
        next(self._answers)
        return (time.perf_counter() - began_s) * 1e6

    def _parts(self) -> Iterator[bytes]:
        """Made by the thread that sends them, as a stage does."""
        for number in itertools.count():
            buffers = self._frames.get()
            if buffers is None:
                return
            yield from split(buffers, epoch=EPOCH, frame_id=number)

    def _port(self, pems: dict[str, str]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(pems) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LaunchError("the echoing process has ended")
        answer: dict[str, Any] = json.loads(line)
        return int(answer["port"])


class Relay(Pipeline):
    """Frames that no stage computes go the way of a token: in at the first worker, through all, back from the last."""

    def __init__(self, stages: Sequence[Any]) -> None:
        self._answers: queue.SimpleQueue[shard_pb2.ResultHeader | MlxctlError] = queue.SimpleQueue()
        super().__init__(stages, self._answers.put, self._answers.put)

    def trips_us(self, count: int) -> list[float]:
        """Times from handing a frame over until its result is here. Raises StageLost."""
        return [self._trip_us(number) for number in range(count)]

    def _trip_us(self, number: int) -> float:
        deployment = self.stages[0].deployment
        began_s = time.perf_counter()
        self._frames.put(
            shard_pb2.FrameHeader(
                deployment=deployment.id,
                epoch=deployment.epoch,
                step=number,
                rows=1,
                columns=1,
                token_ids=[number],
                failure=NO_STEP,
            )
        )
        answer = self._answers.get(timeout=ANSWER_TIMEOUT_S)
        if isinstance(answer, MlxctlError):
            raise answer
        return (time.perf_counter() - began_s) * 1e6


def _identity(authority: CertificateAuthority, name: str) -> Identity:
    key = PrivateKey(name)
    return key.identity(authority.sign(key.request_pem, name), authority.certificate_pem)


def _pems(identity: Identity) -> dict[str, str]:
    return {
        "key": identity.key.decode(),
        "certificate": identity.certificate.decode(),
        "authority": identity.authority.decode(),
    }
