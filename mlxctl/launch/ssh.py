"""SSH connections to nodes: run a command, start a process, send a file. Called by launch; alone imports asyncssh.

The user's ~/.ssh/config, agent and keys are used; host keys are always checked; nothing ever asks for a password.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncssh
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from mlxctl.errors import AuthenticationError, HostKeyRefused, LaunchError, MlxctlError, UsageError
from mlxctl.launch import host_keys, node_shell
from mlxctl.launch.processes import ProcessId
from mlxctl.profile import Node

asyncssh.set_log_level("WARNING")  # it logs every command, and whatever a command holds

KEEPALIVE_S = 5.0  # a link that is cut is noticed within three of these
KEEPALIVE_TRIES = 3
STALL_S = 30.0  # a transfer of which no byte arrives for this long has failed
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended. `exit_status` is -1 where a signal ended it or the connection did not say."""

    exit_status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Destination:
    """Where ssh connects for a node, ~/.ssh/config applied; `direct` unless other hosts lie between."""

    host: str
    port: int
    direct: bool


async def destination(node: Node) -> Destination:
    """Raises UsageError (~/.ssh/config), AuthenticationError (keys that cannot be used)."""
    options = await _options(node)
    return Destination(str(options.host), int(options.port), not options.tunnel and not options.proxy_command)


class RemoteProcess:
    """A process on a node with its three byte streams."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], process_id: ProcessId, node: str) -> None:
        self._process = process
        self._node = node
        self.id = process_id
        self.stdout = process.stdout
        self.stderr = process.stderr

    async def write(self, data: bytes) -> None:
        """Send `data` to its stdin. Raises LaunchError where the connection is gone."""
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            raise LaunchError(f"the connection broke: {_reason(error)}", node=self._node) from error

    def close_stdin(self) -> None:
        with suppress(OSError, asyncssh.Error):
            self._process.stdin.write_eof()

    async def wait(self) -> int | None:
        """Its exit status once it has ended; None if a signal ended it or the connection broke."""
        await self._process.wait_closed()
        return self._process.exit_status


class Remote:
    """An open connection to `node`. `address` and `local_address` are the two ends, as each machine sees its own."""

    def __init__(self, node: Node, connection: asyncssh.SSHClientConnection, jump: Remote | None, user: str) -> None:
        self.node = node
        self.user = user
        self._connection = connection
        self._jump = jump

    @classmethod
    async def connect(cls, node: Node, *, accept_new_host_keys: bool, timeout_s: float) -> Self:
        """Log in to `node`. Raises AuthenticationError (host key, credentials), LaunchError (no way there),
        UsageError (~/.ssh/config), each naming the node and what mends it.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await cls._connect(node, accept_new_host_keys)
        except TimeoutError as error:
            raise LaunchError(
                f"no answer from {node.host} in {timeout_s:g} s",
                hint=f"is it on, and reachable from here? try: ssh {_target(node)} true",
                node=node.name,
            ) from error
        except MlxctlError as error:
            error.node = error.node or node.name
            raise

    @classmethod
    async def _connect(cls, node: Node, accept_new: bool) -> Self:
        options = await _options(node)
        jump = await cls._jump_to(node, options, accept_new)
        try:
            check = _HostKeyCheck(options, accept_new)
            connection = await check.open(node, jump._connection if jump else None)
        except BaseException:
            if jump is not None:
                await jump.close()
            raise
        return cls(node, connection, jump, options.username)

    @classmethod
    async def _jump_to(cls, node: Node, options: asyncssh.SSHClientConnectionOptions, accept_new: bool) -> Self | None:
        """The last of the hosts of ProxyJump, each reached through the one before."""
        jumps = options.tunnel if isinstance(options.tunnel, str) else ""
        if not jumps:
            return None
        *before, last = jumps.split(",")
        user, _, place = last.rpartition("@")
        host, _, port = place.rpartition(":") if place.rpartition(":")[2].isdecimal() else (place, "", "")
        fields: dict[str, Any] = {"name": node.name, "host": host}
        fields |= {"user": user} if user else {}
        fields |= {"ssh_port": int(port)} if port else {}
        hop = Node(**fields)
        hop_options = await _options(hop)
        hop_options.tunnel = hop_options.tunnel or ",".join(before)
        onward = await cls._jump_to(hop, hop_options, accept_new)
        try:
            connection = await _HostKeyCheck(hop_options, accept_new).open(hop, onward._connection if onward else None)
        except BaseException:
            if onward is not None:
                await onward.close()
            raise
        return cls(hop, connection, onward, hop_options.username)

    @property
    def local_address(self) -> str | None:
        """This machine's address on the way to the node; None where another host lies between."""
        if self._jump is not None:
            return None
        name = self._connection.get_extra_info("sockname")  # none where a ProxyCommand is in between
        return str(name[0]) if name else None

    async def run(self, command: str | Sequence[str], *, input: bytes | None = None, timeout_s: float) -> Completed:
        """Run `command` (text for the user's shell, or arguments) to its end. Raises LaunchError if it takes longer
        than `timeout_s` or the connection breaks; an exit status other than 0 is the caller's to judge.
        """
        text = command if isinstance(command, str) else shlex.join(command)
        try:
            done = await self._connection.run(text, input=input or b"", encoding=None, timeout=timeout_s)
        except asyncssh.TimeoutError as error:
            raise self.error(f"no answer to a command in {timeout_s:g} s") from error
        except (OSError, asyncssh.Error) as error:
            raise self.error(f"the connection broke: {_reason(error)}") from error
        status = -1 if done.exit_status is None else done.exit_status
        return Completed(status, _text(done.stdout), _text(done.stderr))

    async def put(self, local: Path, remote_path: str, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the file `local` to `remote_path` (relative: to the home). `on_progress` is given bytes done and all.
        Raises LaunchError, also when nothing arrives for STALL_S.
        """

        def progress(_source: bytes, _target: bytes, done_bytes: int, total_bytes: int) -> None:
            limit.reschedule(asyncio.get_running_loop().time() + STALL_S)
            if on_progress is not None:
                on_progress(done_bytes, total_bytes)

        try:
            async with asyncio.timeout(STALL_S) as limit, self._connection.start_sftp_client() as sftp:
                await sftp.put(str(local), remote_path, progress_handler=progress)
        except TimeoutError as error:
            raise self.error(f"sending {local.name} stalled for {STALL_S:g} s") from error
        except (OSError, asyncssh.Error) as error:
            raise self.error(f"sending {local.name} failed: {_reason(error)}") from error

    async def start(self, arguments: Sequence[str], *, timeout_s: float = STALL_S) -> RemoteProcess:
        """Start `arguments` and return once it runs. It is ended by its id: sshd passes no signals to root."""
        text = shlex.join(node_shell.command("start", *arguments))
        try:
            async with asyncio.timeout(timeout_s):
                process = await self._connection.create_process(text, encoding=None)
                process.stdin.write(node_shell.script())
                while line := await process.stdout.readline():  # a shell's own greeting may come first
                    if identity := node_shell.value(line, "process"):
                        return RemoteProcess(process, node_shell.parse_processes(identity)[0], self.node.name)
                said = (await process.stderr.read()).decode(errors="replace").strip()
        except TimeoutError as error:
            raise self.error(f"nothing started in {timeout_s:g} s") from error
        except (OSError, asyncssh.Error) as error:
            raise self.error(f"the connection broke: {_reason(error)}") from error
        raise self.error(f"nothing starts there: {said.splitlines()[-1] if said else 'the shell said nothing'}")

    def abort(self) -> None:
        """Give the connection up at once: the other end does not answer."""
        self._connection.abort()

    async def close(self) -> None:
        """End the connection; stdin of what was started over it ends with it."""
        self._connection.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()
        if self._jump is not None:
            await self._jump.close()

    def error(self, message: str, hint: str | None = None) -> LaunchError:
        """An error that names the node."""
        return LaunchError(message, hint=hint, node=self.node.name)


@dataclass(slots=True)
class _HostKeyCheck:
    """One attempt to log in, and what it found out about the host's key."""

    options: asyncssh.SSHClientConnectionOptions
    accept_new: bool
    lines: list[host_keys.KnownHostsLine] = field(default_factory=list)
    presented: asyncssh.SSHKey | None = None

    async def open(self, node: Node, tunnel: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
        options = self.options
        self.lines = await asyncio.to_thread(self._matching_lines)
        keys, authorities, revoked = (self._keys(marker) for marker in ("", "cert-authority", "revoked"))
        known = [algorithm for key in keys for algorithm in key.sig_algorithms]
        usual = get_default_certificate_algs() + get_default_public_key_algs()
        algorithms = [name.decode() for name in dict.fromkeys([*known, *usual])]  # a known key's kind first
        try:
            return await asyncssh.connect(
                options.host,
                options.port,
                options=options,
                config=None,
                tunnel=tunnel,
                known_hosts=(keys, authorities, revoked, [], [], [], []),
                server_host_key_algs=algorithms,
                client_factory=lambda: _Client(self),
            )
        except asyncssh.HostKeyNotVerifiable as error:
            raise self._host_key_error() from error
        except asyncssh.PermissionDenied as error:
            raise await _refused(node, options) from error
        except asyncssh.Error as error:
            raise LaunchError(f"{self._place} does not speak SSH with us: {_reason(error)}") from error
        except OSError as error:
            hint = f"is it on, with SSH (macOS: Remote Login) enabled? try: ssh {_target(node)} true"
            raise LaunchError(f"cannot reach {self._place}: {_reason(error)}", hint=hint) from error

    def validate(self, key: asyncssh.SSHKey) -> bool:
        """Whether a key that is in none of the files may be trusted: only that of a host that is in none either."""
        self.presented = key
        if self.lines or not self.accept_new:
            return False
        host_keys.record(self._name, self.options.port, _openssh(key))
        return True

    @property
    def _name(self) -> str:
        return str(self.options.host_key_alias or self.options.host)

    @property
    def _place(self) -> str:
        return f"{self.options.host} port {self.options.port}"

    def _matching_lines(self) -> list[host_keys.KnownHostsLine]:
        config: Any = self.options.config
        configured = [*config.get("UserKnownHostsFile", []), *config.get("GlobalKnownHostsFile", [])]
        port = self.options.port if self.options.port != host_keys.DEFAULT_PORT else None
        return [line for line in host_keys.read_lines(host_keys.files(configured)) if _matches(line, self._name, port)]

    def _keys(self, marker: str) -> list[asyncssh.SSHKey]:
        index = ("", "cert-authority", "revoked").index(marker)
        port = self.options.port if self.options.port != host_keys.DEFAULT_PORT else None
        return [key for line in self.lines for key in _match(line, self._name, port)[index]]

    def _host_key_error(self) -> HostKeyRefused:
        host = host_keys.shown_host(self._name, self.options.port)
        if self.presented is None:
            return HostKeyRefused(f"the host key of {host} is revoked or its certificate is not valid")
        shown = f"{self.presented.get_algorithm()} {self.presented.get_fingerprint()}"
        if self.lines:
            line = self.lines[0]
            return HostKeyRefused(
                f"the host key of {host} is not the one in {line.file}:{line.number}; it now shows {shown}",
                hint=f"if the machine was set up anew: ssh-keygen -f {shlex.quote(str(line.file))} -R '{host}'",
            )
        port = "" if self.options.port == host_keys.DEFAULT_PORT else f"-p {self.options.port} "
        return HostKeyRefused(
            f"the host key of {host} is not known: {shown}",
            hint=f"if that is its key: ssh-keyscan {port}{self.options.host} >> ~/.ssh/known_hosts, "
            "or mlxctl up --accept-new-host-keys",
        )


class _Client(asyncssh.SSHClient):
    """Asks the check about a host key that the files do not hold."""

    def __init__(self, check: _HostKeyCheck) -> None:
        self._check = check

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._check.validate(key)


async def _options(node: Node) -> asyncssh.SSHClientConnectionOptions:
    """How to log in: the profile's fields beat ~/.ssh/config, which beats the defaults."""
    given: dict[str, Any] = {"host": node.host, "config": ()}
    if "ssh_port" in node.model_fields_set:
        given["port"] = node.ssh_port
    if node.user is not None:
        given["username"] = node.user
    if node.identity_file is not None:
        given["client_keys"] = [str(node.identity_file)]
    try:
        options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
            **given,
            ignore_encrypted=True,  # the agent may hold them
            preferred_auth="publickey",
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVE_TRIES,
            agent_forwarding=False,
            x11_forwarding=False,
            request_pty=False,
        )
        return options
    except asyncssh.ConfigParseError as error:
        raise UsageError(f"your ssh configuration: {error}", node=node.name) from error
    except (OSError, ValueError) as error:  # asyncssh's errors of keys are ValueErrors
        what = f"cannot use the key {node.identity_file}" if node.identity_file else "cannot use your ssh keys"
        raise AuthenticationError(f"{what}: {_reason(error)}", node=node.name) from error


async def _refused(node: Node, options: asyncssh.SSHClientConnectionOptions) -> AuthenticationError:
    """Says which keys were offered."""
    offered = [str(Path(str(node.identity_file)))] if node.identity_file else []
    if not offered:
        offered = [f"{pair.get_algorithm()} {pair.get_comment()}".strip() for pair in options.client_keys or []]
    if options.agent_path:
        with suppress(OSError, asyncssh.Error, ValueError):
            async with asyncssh.SSHAgentClient(options.agent_path) as agent:
                offered += [f"{pair.get_comment()} of the agent" for pair in await agent.get_keys()]
    tried = f"tried: {', '.join(offered)}" if offered else "there was no key to try"
    port = "" if options.port == host_keys.DEFAULT_PORT else f"-p {options.port} "
    return AuthenticationError(
        f"{options.username} may not log in at {options.host}; {tried}",
        hint=f"let it in with: ssh-copy-id {port}{options.username}@{options.host} (or ssh-add a key it knows)",
    )


def _match(line: host_keys.KnownHostsLine, host: str, port: int | None) -> Sequence[Sequence[Any]]:
    try:
        return asyncssh.import_known_hosts(line.text).match(host, "", port)
    except ValueError:  # a line that no ssh understands
        return ((), (), ())


def _matches(line: host_keys.KnownHostsLine, host: str, port: int | None) -> bool:
    return any(_match(line, host, port)[:3])


def _openssh(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def _target(node: Node) -> str:
    port = f"-p {node.ssh_port} " if "ssh_port" in node.model_fields_set else ""
    return f"{port}{node.user}@{node.host}" if node.user else f"{port}{node.host}"


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio words its own
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
