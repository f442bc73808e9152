"""Energy of a Mac from `powermetrics`, which only root may run: read where sudo asks nothing, never modelled.

Called by prepare and the runner. Unverified on a Mac so far: the parser is tested against output in the form that
users of Macs published.
"""

from __future__ import annotations

import platform
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from mlxctl.bench.records import Energy

INTERVAL_MS = 500
ASK_TIMEOUT_S = 10.0
SOURCE = "powermetrics"
COMMAND = ("sudo", "-n", "powermetrics", "--samplers", "cpu_power")
_SAMPLE = re.compile(r"\*\*\* Sampled system activity .*\(([\d.]+)ms elapsed\)")
_POWER = re.compile(r"Combined Power \(CPU \+ GPU \+ ANE\): (\d+) mW")


@dataclass(frozen=True, slots=True)
class Sample:
    """What CPU, GPU and Neural Engine used together over a while."""

    seconds_s: float
    joules: float


def samples(lines: Iterable[str]) -> Iterator[Sample]:
    """The samples in what powermetrics prints, as they become whole."""
    seconds_s: float | None = None
    for line in lines:
        if (begun := _SAMPLE.search(line)) is not None:
            seconds_s = float(begun[1]) / 1e3
        elif (power := _POWER.search(line)) is not None and seconds_s is not None:
            yield Sample(seconds_s, int(power[1]) / 1e3 * seconds_s)
            seconds_s = None


def energy_fault() -> str | None:
    """Why this machine's energy cannot be read; None if it can."""
    if platform.system() != "Darwin":
        return f"{SOURCE} is macOS's, and {platform.system()} has no source that is read here"
    command = [*COMMAND, "-i", "1", "-n", "1"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return f"{SOURCE} does not run"
    return None if done.returncode == 0 else f"{SOURCE} needs root: sudo -v before the bench lets it be read"


class PowerMeter:
    """A running powermetrics and the sums of what it has said. A context manager."""

    def __init__(self, command: tuple[str, ...] = (*COMMAND, "-i", str(INTERVAL_MS))) -> None:
        self._command = command
        self._seconds_s = self._joules = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._thread = threading.Thread(target=self._read, name="powermetrics")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with suppress(PermissionError):  # it is root's; its next line finds nobody who reads
            self._process.terminate()
        self._thread.join()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for sample in samples(lines):
                self._seconds_s += sample.seconds_s
                self._joules += sample.joules
                if self._over.is_set():
                    return

    def energy(self) -> Energy | None:
        """Of all samples so far; None before the first."""
        if not self._seconds_s:
            return None
        return Energy(source=SOURCE, seconds_s=self._seconds_s, joules=self._joules)


@contextmanager
def metered(possible: bool) -> Iterator[PowerMeter | None]:
    """A meter for as long as the block runs, where there can be one."""
    if not possible:
        yield None
        return
    with PowerMeter() as meter:
        yield meter
