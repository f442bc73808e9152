"""A model hub on this machine: real HTTP with a hub's addresses, headers, redirects and refusals; faults on demand.

Large files are redirected to a second server (the hub's content network), whose addresses are signed and which must
never see a token. Used by tests of checkpoint, worker and launch.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_goodtoken"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Repo:
    """A model: a folder at one commit; `gated` wants a token, `private` hides without one."""

    folder: Path
    commit: str = COMMIT
    gated: bool = False
    private: bool = False


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next `times` requests for a path with `part` in it: an answer with `status`, or the
    connection cut after `cut_after` bytes, or silence for `silent_s`, or the whole file instead of a range.
    """

    part: str
    times: int = 1
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    silent_s: float = 0.0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and how many bytes of body it got."""

    server: str
    path: str
    byte_range: str | None
    token: str | None
    body_bytes: int


class HubServer:
    """The hub and its content network, on two ports of this machine."""

    def __init__(self, repos: Mapping[str, Repo]) -> None:
        self.repos = dict(repos)
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.signature = "first"
        self.lock = threading.Lock()
        self._hub = _Server(self, "hub")
        self._content = _Server(self, "content")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_port}"

    @property
    def content(self) -> str:
        return f"http://127.0.0.1:{self._content.server_port}"

    def bytes_of(self, file: str) -> int:
        """Bytes of `file` that were sent."""
        return sum(seen.body_bytes for seen in self.seen if seen.path.endswith(file))

    def fault_for(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.part in path:
                    fault.times -= 1
                    return fault
        return None

    @contextmanager
    def serving(self) -> Iterator[HubServer]:
        threads = [threading.Thread(target=each.serve_forever, daemon=True) for each in (self._hub, self._content)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server in (self._hub, self._content):
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: HubServer, role: str) -> None:
        self.hub = hub
        self.role = role
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Tests look at `seen`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.server.hub.fault_for(path)
        if fault and fault.silent_s:
            time.sleep(fault.silent_s)
        if fault and fault.status:
            self._answer(fault.status, b"", fault.headers)
        elif self.server.role == "content":
            self._content(path, fault)
        elif found := re.fullmatch(r"/api/models/(.+?)(?:/revision/([^/]+))?", path):
            self._model(found[1], found[2] or "main", fault)
        elif found := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3], fault)
        else:
            self._refuse(404, "EntryNotFound")

    def _model(self, name: str, revision: str, fault: Fault | None) -> None:
        repo = self._repo(name, revision)
        if repo is not None:
            files = sorted(str(file.relative_to(repo.folder)) for file in repo.folder.rglob("*") if file.is_file())
            document = {"id": name, "sha": repo.commit, "siblings": [{"rfilename": file} for file in files]}
            self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"}, fault)

    def _resolve(self, name: str, revision: str, file: str, fault: Fault | None) -> None:
        repo = self._repo(name, revision, file)
        if repo is None:
            return
        path = repo.folder / file
        if not path.is_file():
            self._refuse(404, "EntryNotFound")
            return
        tag = hashlib.sha256(path.read_bytes()).hexdigest()
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": repo.commit}
        if file.endswith(".safetensors"):
            size = str(path.stat().st_size)
            target = f"{self.server.hub.content}/{name}/{file}?signature={self.server.hub.signature}"
            self._answer(302, b"", {**headers, "Location": target, "X-Linked-Size": size, "X-Linked-Etag": f'"{tag}"'})
        else:
            self._file(path, headers, fault)

    def _content(self, path: str, fault: Fault | None) -> None:
        signature = parse_qs(urlsplit(self.path).query).get("signature")
        if signature != [self.server.hub.signature]:
            self._answer(403, b"", {})
            return
        name, _, file = path.removeprefix("/").rpartition("/")
        self._file(self.server.hub.repos[name].folder / file, {}, fault)

    def _repo(self, name: str, revision: str, file: str = "") -> Repo | None:
        """The model, unless it is refused."""
        repo, token = self.server.hub.repos.get(name), self._token()
        if token not in (None, TOKEN):
            self._answer(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repo is None or (repo.private and token is None):
            self._refuse(401 if token is None else 404, "RepoNotFound")
        elif revision not in ("main", repo.commit):
            self._refuse(404, "RevisionNotFound")
        elif repo.gated and token is None and file:
            self._refuse(401, "GatedRepo")
        else:
            return repo
        return None

    def _token(self) -> str | None:
        given = self.headers.get("Authorization")
        return given.removeprefix("Bearer ") if given else None

    def _file(self, path: Path, headers: Mapping[str, str], fault: Fault | None) -> None:
        data = path.read_bytes()
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None or (fault and fault.whole):
            self._answer(200, data, {**headers, "Accept-Ranges": "bytes"}, fault)
            return
        start, stop = int(asked[1]), min(int(asked[2]) + 1, len(data))
        place = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        self._answer(206, data[start:stop], {**headers, **place}, fault)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = fault.cut_after if fault else None
        sent = body[:cut] if self.command == "GET" else b""
        path = urlsplit(self.path).path
        seen = Seen(self.server.role, path, self.headers.get("Range"), self._token(), len(sent))
        with self.server.hub.lock:
            self.server.hub.seen.append(seen)
        self.wfile.write(sent)
        if cut is not None:
            self.close_connection = True
