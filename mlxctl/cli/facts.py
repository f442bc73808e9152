"""`mlxctl facts` (hidden): what a launch elsewhere needs to know of this machine."""

from __future__ import annotations


def facts() -> None:
    """Say what this machine is, as JSON."""
    from dataclasses import asdict

    from mlxctl.cli.output import print_json
    from mlxctl.launch.probe import probe_machine

    document = asdict(probe_machine())
    print_json({"schema": "mlxctl.facts/1", "facts": document}, one_line=True)
