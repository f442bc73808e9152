"""Sends an installation to a node and has it installed there. Called by provision's steps."""

from __future__ import annotations

import asyncio
import json
import secrets
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

from mlxctl.errors import LaunchError, StoreFull, UsageError
from mlxctl.launch.phases import FirstError
from mlxctl.launch.provision.installed import Installed
from mlxctl.launch.provision.look import Look
from mlxctl.launch.ssh import Remote, RemoteProcess

MAKE_FOLDER_TIMEOUT_S = 30.0
INSTALL_TIMEOUT_S = 900.0
END_TIMEOUT_S = 5.0
SENDERS = 4
SENT_STEP = 10  # percent between two reports
SPARE_BYTES = 64 << 20
DISTRIBUTIONS = ("mlxctl", "mlx", "mlx-lm")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class File:
    """A wheel on this machine, to be installed on a node."""

    path: Path
    sha256: str

    @property
    def place(self) -> str:
        """Where a node keeps it, below its folder of wheels."""
        return f"{self.sha256}/{self.path.name}"

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def installed_bytes(self) -> int:
        """Room that its files take, byte code included (about as much as its source). Raises UsageError."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = archive.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            hint = f"remove it and fill the folder again: mlxctl wheelhouse {self.path.parent}"
            raise UsageError(f"{self.path} is not a wheel any more", hint=hint) from error
        return sum(entry.file_size * (2 if entry.filename.endswith(".py") else 1) for entry in entries)


async def deliver(remote: Remote, seen: Look, python: str, chosen: Sequence[File], venv: str, report: Say) -> Installed:
    """Send those of the files `chosen` that the node lacks and have `python` install all of them in `venv`.

    Raises StoreFull, LaunchError. Interrupted, it leaves nothing there but whole wheels.
    """
    missing = [file for file in chosen if file.place not in seen.wheels]
    await asyncio.to_thread(_require_space, seen, chosen, missing)
    incoming = f"{seen.home}/incoming/{secrets.token_hex(8)}"
    await _make_folder(remote, incoming)
    process = await _start_installer(remote, python, incoming)
    try:
        await _send(remote, missing, incoming, report)
        order = {
            "home": seen.home,
            "venv": venv,
            "wheels": [{"file": file.path.name, "sha256": file.sha256} for file in chosen],
            "distributions": DISTRIBUTIONS,
        }
        marker = await _converse(process, order, report)
    finally:
        process.close_stdin()
        await _until_ended(process)
    return Installed.from_json(marker, seen.home)


def _require_space(seen: Look, chosen: Sequence[File], missing: Sequence[File]) -> None:
    needed = SPARE_BYTES + sum(file.size_bytes for file in missing) + sum(file.installed_bytes for file in chosen)
    if seen.space_bytes is not None and seen.space_bytes < needed:
        raise StoreFull(
            f"installing needs {needed >> 20} MiB on the disk of {seen.home}, which has {seen.space_bytes >> 20} MiB",
            hint="make room there, or set MLXCTL_HOME there to a folder on a larger disk",
        )


async def _make_folder(remote: Remote, folder: str) -> None:
    done = await remote.run(["mkdir", "-p", "-m", "700", folder], timeout_s=MAKE_FOLDER_TIMEOUT_S)
    if done.exit_status != 0:
        raise LaunchError(f"cannot make a folder there: {_last(done.stderr)}")


async def _start_installer(remote: Remote, python: str, incoming: str) -> RemoteProcess:
    """The installer waits for its order; from now on it removes `incoming` when it ends or nobody is here any more."""
    installer = Path(str(files("mlxctl.launch.provision") / "install.py"))
    try:
        await remote.put(installer, f"{incoming}/{installer.name}")
        return await remote.start([python, "-I", f"{incoming}/{installer.name}"])
    except BaseException:
        with suppress(LaunchError):
            await remote.run(["rm", "-rf", incoming], timeout_s=MAKE_FOLDER_TIMEOUT_S)
        raise


async def _send(remote: Remote, missing: Sequence[File], incoming: str, report: Say) -> None:
    """Copy `missing` into `incoming`, a few at a time; says how far every few percent."""
    total = sum(file.size_bytes for file in missing)
    sent: dict[Path, int] = {}
    told = 0

    def on_progress(path: Path, done_bytes: int, _all_bytes: int) -> None:
        nonlocal told
        sent[path] = done_bytes
        percent = 100 * sum(sent.values()) // max(total, 1)
        if percent >= told + SENT_STEP:
            told = percent
            report(f"sending {len(missing)} wheels: {percent} % of {total >> 20} MiB")

    slots = asyncio.Semaphore(SENDERS)

    async def send(path: Path) -> None:
        async with slots:
            await remote.put(path, f"{incoming}/{path.name}", partial(on_progress, path))

    async with FirstError() as group:
        for file in missing:
            group.create_task(send(file.path))


async def _converse(process: RemoteProcess, order: Mapping[str, object], report: Say) -> str:
    """Give the order, pass on what the installer says, return the marker it made. Raises LaunchError."""
    try:
        async with asyncio.timeout(INSTALL_TIMEOUT_S):
            await process.write(json.dumps(order).encode() + b"\n")
            while line := await process.stdout.readline():
                message = json.loads(line)
                if "done" in message:
                    return json.dumps(message["done"])
                if "error" in message:
                    raise LaunchError(f"cannot install there: {message['error']}", hint=message["hint"])
                report(message["say"])
            said = (await process.stderr.read()).decode(errors="replace")
    except TimeoutError as error:
        raise LaunchError(f"installing took more than {INSTALL_TIMEOUT_S:g} s there") from error
    except ValueError as error:
        raise LaunchError("the installer there answered in another way than ours does") from error
    raise LaunchError(f"the installer there ended early: {_last(said)}")


async def _until_ended(process: RemoteProcess) -> None:
    """It cleans up first; one that cannot be reached any more does so all the same."""
    with suppress(TimeoutError):
        async with asyncio.timeout(END_TIMEOUT_S):
            await process.wait()


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
