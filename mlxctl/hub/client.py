"""HTTP to a hub: JSON, whole small files, byte ranges of large ones. Goes on after cuts, waits where told to, reads no
byte more than asked for. Called by checkpoint for headers, by workers for weights.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from mlxctl.errors import CheckpointError
from mlxctl.hub.access import HubAccess
from mlxctl.hub.faults import refusal, unreachable

PATIENT = 6  # attempts in a row without a byte of progress
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
TIMEOUT = httpx2.Timeout(10.0, read=20.0)
CONNECTIONS = httpx2.Limits(max_connections=16)
MAX_JSON_BYTES = 32_000_000
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class _Passing(Exception):
    """A failure that may pass: after `wait_s`, if the hub says how long; `fault` is what to raise if it does not. One
    that counts for several attempts (`weight`) rarely passes.
    """

    def __init__(self, fault: Exception, wait_s: float | None = None, weight: int = 1) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.wait_s = wait_s
        self.weight = weight


class HubClient:
    """Connections to the hub of `access`. Usable from several threads; close it.

    Everything raises CheckpointError or AuthenticationError: one line with the way to mend it.
    """

    def __init__(self, access: HubAccess, attempts: int = PATIENT) -> None:
        self.access = access
        self._attempts = attempts
        self._client = httpx2.Client(timeout=TIMEOUT, limits=CONNECTIONS, follow_redirects=True, max_redirects=5)
        self._targets: dict[str, str] = {}  # where a file's address redirected to
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def model(self, repo: str, revision: str) -> Mapping[str, Any]:
        """What the hub says of a model at `revision`: `sha` is the commit, `siblings` are its files."""
        url = f"{self.access.endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}"
        data = self._whole(url, f"{repo}@{revision}", MAX_JSON_BYTES)
        try:
            document = json.loads(data)
            if not isinstance(document, dict) or not re.fullmatch(r"[0-9a-f]{7,64}", document["sha"]):
                raise ValueError("no commit")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            hint = "check HF_ENDPOINT"
            raise CheckpointError(f"{url} does not answer as a hub does: {error}", hint=hint) from None
        return document

    def file(self, repo: str, commit: str, file: str, limit_bytes: int) -> bytes:
        """A whole file. Raises CheckpointError also if it is longer than `limit_bytes`."""
        return self._whole(self._url(repo, commit, file), f"{repo}: {file}", limit_bytes)

    def beginning(self, repo: str, commit: str, file: str, size_bytes: int) -> tuple[bytes, int]:
        """The first `size_bytes` (fewer of a short file), and how long the whole file is."""
        url, what, pause = self._url(repo, commit, file), f"{repo}: {file}", _Pause(self._attempts)
        while True:
            try:
                with self._range(url, what, 0, size_bytes) as (response, total_bytes):
                    data = b"".join(_exactly(response, min(size_bytes, total_bytes)))
                return data, total_bytes
            except _Passing as failure:
                pause.after(failure)

    def read(self, repo: str, commit: str, file: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file as they come; where the connection is cut, from there on."""
        url, what, pause = self._url(repo, commit, file), f"{repo}: {file}", _Pause(self._attempts)
        while start < stop:
            try:
                with self._range(url, what, start, stop) as (response, _):
                    for data in _exactly(response, stop - start):
                        start += len(data)
                        pause.forget()
                        yield data
            except _Passing as failure:
                pause.after(failure)

    def _url(self, repo: str, commit: str, file: str) -> str:
        return f"{self.access.endpoint}/{repo}/resolve/{commit}/{quote(file)}"

    def _whole(self, url: str, what: str, limit_bytes: int) -> bytes:
        pause = _Pause(self._attempts)
        while True:
            try:
                with self._get(url, what, {}) as response:
                    return _at_most(response, what, limit_bytes)
            except _Passing as failure:
                pause.after(failure)

    @contextmanager
    def _range(self, url: str, what: str, start: int, stop: int) -> Iterator[tuple[httpx2.Response, int]]:
        """The answer to a request for [start, stop), and the file's length. Raises _Passing."""
        with self._get(url, what, {"Range": f"bytes={start}-{stop - 1}"}) as response:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if response.status_code != 206 or found is None or int(found[1]) != start:
                hint = "use another hub (HF_ENDPOINT), or download the model: hf download"
                raise CheckpointError(f"{self.access.endpoint} does not send parts of files: {what}", hint=hint)
            yield response, int(found[3])

    @contextmanager
    def _get(self, url: str, what: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        """A successful answer, its body not yet read. Raises _Passing for what may pass, and the refusal else."""
        target = self._targets.get(url, url)
        headers = {"Accept-Encoding": "identity", **headers}
        if self.access.token and target == url:  # addresses redirected to are signed, and not for our token
            headers["Authorization"] = f"Bearer {self.access.token}"
        try:
            with self._client.stream("GET", target, headers=headers) as response:
                self._check(response, url, target, what)
                yield response
        except httpx2.ConnectError as error:
            raise _Passing(unreachable(self.access, what, _reason(error)), weight=2) from None
        except httpx2.HTTPError as error:
            raise _Passing(unreachable(self.access, what, _reason(error))) from None
        except httpx2.InvalidURL as error:
            raise unreachable(self.access, what, _reason(error)) from None

    def _check(self, response: httpx2.Response, url: str, target: str, what: str) -> None:
        status = response.status_code
        if status in (200, 206):
            with self._lock:
                self._targets[url] = str(response.url)
            return
        fault = refusal(self.access, what, status, response.headers.get("x-error-code", ""))
        if target != url and status < 500:  # a signed address has expired: ask for another one
            with self._lock:
                self._targets.pop(url, None)
            raise _Passing(fault, 0.0)
        if status in (408, 429) or status >= 500:
            raise _Passing(fault, _seconds(response.headers.get("retry-after")))
        raise fault


class _Pause:
    """Waits between attempts, longer each time; after too many the failure is final."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts
        self._failures = 0

    def forget(self) -> None:
        """Something came."""
        self._failures = 0

    def after(self, failure: _Passing) -> None:
        self._failures += failure.weight
        if self._failures >= self._attempts or (failure.wait_s or 0) > LONGEST_WAIT_S:
            raise failure.fault from None
        backoff_s = FIRST_WAIT_S * 2 ** (self._failures - 1)
        time.sleep(min(backoff_s if failure.wait_s is None else failure.wait_s, LONGEST_WAIT_S))


def _exactly(response: httpx2.Response, size_bytes: int) -> Iterator[bytes]:
    """`size_bytes` of the body, however much more there is. Raises httpx2.ReadError if there is less."""
    for data in response.iter_raw():
        if len(data) >= size_bytes:
            yield data[:size_bytes]
            return
        size_bytes -= len(data)
        yield data
    if size_bytes:
        raise httpx2.ReadError(f"it broke off {size_bytes} bytes before the end")


def _at_most(response: httpx2.Response, what: str, limit_bytes: int) -> bytes:
    parts, size_bytes = [], 0
    for data in response.iter_raw():
        size_bytes += len(data)
        if size_bytes > limit_bytes:
            raise CheckpointError(f"{what} is longer than the {limit_bytes} bytes that it may be")
        parts.append(data)
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and size_bytes < int(announced):
        raise httpx2.ReadError(f"it broke off after {size_bytes} of {announced} bytes")
    return b"".join(parts)


def _seconds(retry_after: str | None) -> float | None:
    """Of a Retry-After header; None where it is absent or a date."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__
