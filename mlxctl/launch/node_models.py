"""Which models and layers the machines of a profile have; nothing is changed there. Called by `mlxctl models list`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from mlxctl.errors import MlxctlError
from mlxctl.launch.launch import Machine, machines_of
from mlxctl.launch.phases import FirstError
from mlxctl.profile import Profile

CONNECT_TIMEOUT_S = 10.0
LIST_TIMEOUT_S = 3600.0  # hashing what is there may be asked for


def models_on_nodes(profile: Profile, *, verify: bool) -> dict[str, list[dict[str, Any]]]:
    """The rows of `mlxctl models --json` of every other machine of `profile`, by its first node's name; none where our
    code is not installed yet. Blocks. Raises AuthenticationError, LaunchError.
    """

    async def ask_all() -> list[list[dict[str, Any]]]:
        async with FirstError() as group:
            tasks = [group.create_task(_ask(machine, verify)) for machine in machines]
        return [task.result() for task in tasks]

    machines = machines_of(profile)
    return dict(zip((machine.node.name for machine in machines), asyncio.run(ask_all()), strict=True))


async def _ask(machine: Machine, verify: bool) -> list[dict[str, Any]]:
    from mlxctl.launch.provision.steps import examine, venv_name
    from mlxctl.launch.ssh import Remote

    node = machine.node
    remote = await Remote.connect(node, accept_new_host_keys=False, timeout_s=CONNECT_TIMEOUT_S)
    try:
        installed = (await examine(remote, node, await asyncio.to_thread(venv_name, node))).installed
        if installed is None:
            return []
        command = [installed.python, "-P", "-m", "mlxctl", "models", "--json", *(["--verify"] if verify else [])]
        done = await remote.run(["env", f"MLXCTL_HOME={installed.home}", *command], timeout_s=LIST_TIMEOUT_S)
        rows: list[dict[str, Any]] = json.loads(done.stdout)["models"]
        return rows
    except (ValueError, KeyError, TypeError) as error:
        raise remote.error("our code there does not tell which models it has") from error
    except MlxctlError as error:
        error.node = error.node or node.name
        raise
    finally:
        await remote.close()
