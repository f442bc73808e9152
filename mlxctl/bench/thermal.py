"""Heat and power of a Mac, from what `pmset` prints. The parsers are pure; called by environment and the runner.

Unverified on a Mac so far: the parsers are tested against the output that pmset's documentation shows.
"""

from __future__ import annotations

import platform
import re
import subprocess

from mlxctl.bench.records import Thermal

COMMAND_TIMEOUT_S = 5.0
_SPEED_LIMIT = re.compile(r"CPU_Speed_Limit\s*=\s*(\d+)")
_WARNING = re.compile(r"(?:thermal warning level|performance warning level)[^\n]*?(\d+)\s*$", re.MULTILINE | re.I)
_POWER = re.compile(r"Now drawing from '([^']+)'")
_BATTERY = re.compile(r"(\d+)%;")


def thermal_now() -> Thermal | None:
    """This machine's state; None where nothing tells it."""
    if platform.system() != "Darwin":
        return None
    return parse_pmset(_output("pmset", "-g", "therm"), _output("pmset", "-g", "batt"))


def parse_pmset(therm: str, batt: str) -> Thermal:
    """The state in the texts of `pmset -g therm` and `pmset -g batt`; what they do not tell is null."""
    limit, power, battery = _SPEED_LIMIT.search(therm), _POWER.search(batt), _BATTERY.search(batt)
    levels = _WARNING.findall(therm)
    return Thermal(
        source="pmset",
        cpu_speed_limit_percent=int(limit[1]) if limit else None,
        warning=f"level {max(map(int, levels))}" if levels else None,
        power=power[1] if power else None,
        battery_percent=int(battery[1]) if battery else None,
    )


def is_throttled(thermal: Thermal | None) -> bool:
    """Whether the machine says that it has slowed itself down."""
    return thermal is not None and (thermal.cpu_speed_limit_percent or 100) < 100


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    return done.stdout
