"""What is asked of a node in plain sh over SSH: who it is, who holds it, ending processes. Called by launch's phases.

Works before our code is installed there and after it has died; the shell's side is node.sh.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from mlxctl.errors import LaunchError
from mlxctl.launch.processes import ProcessId, parse_boot_id

if TYPE_CHECKING:
    from mlxctl.launch.ssh import Completed, Remote

TIMEOUT_S = 10.0
END_TIMEOUT_S = 6.0  # beyond the grace: the wait after KILL, and the way there and back
_PREFIX = "mlxctl "
_BOOTSTRAP = 'size=$1; shift; eval "$(dd bs=1 count="$size" 2>/dev/null)"'  # byte by byte: the rest is not ours to read


@dataclass(frozen=True, slots=True)
class SeenClaim:
    """The claim on a node: `text` is the JSON that its holder wrote, `age_s` the time since it was renewed."""

    text: str
    age_s: float
    keeper_is_alive: bool
    workers: tuple[ProcessId, ...]


@dataclass(frozen=True, slots=True)
class NodeLook:
    """A node without our code. `address` is its own end of the SSH connection, `home` our folder there."""

    system: str
    boot_id: str
    home: str
    address: str
    claim: SeenClaim | None


@dataclass(frozen=True, slots=True)
class Ended:
    """Which of the processes ran, and which are alive all the same."""

    ran: tuple[ProcessId, ...]
    left: tuple[ProcessId, ...]


async def look(remote: Remote) -> NodeLook:
    """What a shell can tell. Raises LaunchError."""
    answer = _answer(remote, await remote.run(command("look"), input=script(), timeout_s=TIMEOUT_S), "system")
    claim = None
    if "claim" in answer:
        claim = SeenClaim(
            text=answer["claim"][0],
            age_s=float(answer["claim_age"][0]),
            keeper_is_alive="claim_alive" in answer,
            workers=parse_processes(answer["claim_workers"][0]),
        )
    boot_id = parse_boot_id(answer["boot"][0])
    return NodeLook(answer["system"][0], boot_id, answer["home"][0], answer["address"][0], claim)


async def end(remote: Remote, processes: Iterable[ProcessId], grace_s: float) -> Ended:
    """TERM, KILL after `grace_s`, verify. Raises LaunchError where the node does not answer."""
    return await _end(remote, "end", processes, grace_s)


async def clear(remote: Remote, processes: Iterable[ProcessId], grace_s: float) -> Ended:
    """As `end`, for `processes` and everything that the claim on the node covers; the claim is gone then."""
    return await _end(remote, "clear", processes, grace_s)


async def _end(remote: Remote, verb: str, processes: Iterable[ProcessId], grace_s: float) -> Ended:
    arguments = [str(round(grace_s * 10)), *(shown(process) for process in processes)]
    done = await remote.run(command(verb, *arguments), input=script(), timeout_s=grace_s + END_TIMEOUT_S)
    answer = _answer(remote, done, None)
    ran, left = (
        tuple(process for text in answer.get(key, []) for process in parse_processes(text)) for key in ("ran", "left")
    )
    return Ended(ran, left)


def command(verb: str, *arguments: str) -> list[str]:
    """Arguments that run `verb` of node.sh, which is the `script` that its stdin begins with."""
    return ["sh", "-c", _BOOTSTRAP, "mlxctl", str(len(script())), verb, *arguments]


@cache
def script() -> bytes:
    """node.sh. On stdin rather than among the arguments, where every `ps` on the node would show it."""
    return (files("mlxctl.launch") / "node.sh").read_bytes()


def value(line: bytes, key: str) -> str | None:
    """What `line` says of `key`; None if it says something else (a shell's own greeting, say)."""
    text = line.decode(errors="replace").rstrip("\n")
    marker = f"{_PREFIX}{key} "
    return text.removeprefix(marker) if text.startswith(marker) else None


def shown(process: ProcessId) -> str:
    """As node.sh writes a process."""
    return f"{process.pid}:{process.start_time:.0f}"


def parse_processes(text: str) -> tuple[ProcessId, ...]:
    """From `shown`, joined with commas; "-" is none. Raises LaunchError for anything else."""
    try:
        pairs = [part.split(":") for part in text.split(",") if part.strip(" -")]
        return tuple(ProcessId(int(pid), float(start)) for pid, start in pairs)
    except ValueError as error:
        raise LaunchError(f"the node names no process: {text[:80]!r}") from error


def _answer(remote: Remote, done: Completed, needed: str | None) -> dict[str, Sequence[str]]:
    """The lines by key."""
    answer: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith(_PREFIX):
            key, _, rest = line.removeprefix(_PREFIX).partition(" ")
            answer.setdefault(key, []).append(rest)
    if done.exit_status or (needed is not None and needed not in answer):
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise remote.error(f"its shell did not run our script; it said: {said[0]}", hint="mlxctl needs sh there")
    return dict(answer)
