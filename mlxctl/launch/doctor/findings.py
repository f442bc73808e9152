"""What doctor found: one finding per node and check, one measurement per link. Pure; printed by the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warn", "fail", "skip"]
SCHEMA = "mlxctl.doctor/1"
HERE = "this machine"  # where no node is meant

# Key and title of every check, in the order in which one needs the other.
CHECKS = {
    "resolve": "name resolves",
    "tcp": "SSH port answers",
    "host_key": "host key",
    "login": "SSH login",
    "claim": "free for us",
    "python": "Python",
    "versions": "versions",
    "disk": "disk",
    "memory": "memory",
    "pressure": "memory pressure",
    "wired_limit": "GPU memory limit",
    "sleep": "sleep",
    "clock": "clock",
    "ports": "ports free",
    "reach": "reachable",
    "link": "link",
    "leftovers": "nothing left over",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is a key of CHECKS; `mend` is what to type or do where `level` is warn or fail."""

    node: str
    check: str
    level: Level
    detail: str
    mend: str | None = None


@dataclass(frozen=True, slots=True)
class LinkMeasurement:
    """From `source` (a node, or this machine) to `target`'s worker port; `medium` is what the source sends through."""

    source: str
    target: str
    rtt_s: float
    bytes_per_s: float
    interface: str
    medium: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, in the order of the profile's nodes and of CHECKS."""

    profile: str
    nodes: Sequence[str]
    findings: Sequence[Finding]
    links: Sequence[LinkMeasurement]
    took_s: float

    @property
    def is_ok(self) -> bool:
        """Whether nothing failed; warnings are no failures."""
        return all(finding.level != "fail" for finding in self.findings)

    def to_document(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {"schema": SCHEMA, "ok": self.is_ok, **asdict(self)}


class Notes:
    """Findings of one node as they are made."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.findings: list[Finding] = []

    def ok(self, check: str, detail: str) -> None:
        self._add(check, "ok", detail)

    def warn(self, check: str, detail: str, mend: str | None) -> None:
        self._add(check, "warn", detail, mend)

    def fail(self, check: str, detail: str, mend: str | None) -> None:
        self._add(check, "fail", detail, mend)

    def skip(self, check: str, detail: str) -> None:
        self._add(check, "skip", detail)

    def skip_rest(self, detail: str) -> None:
        """Every check that has no finding yet cannot be made."""
        made = {finding.check for finding in self.findings}
        for check in CHECKS:
            if check not in made:
                self.skip(check, detail)

    def _add(self, check: str, level: Level, detail: str, mend: str | None = None) -> None:
        assert check in CHECKS
        self.findings.append(Finding(self.node, check, level, detail, mend))
