"""What the phases of a launch find and make. Made by the daemon, filled by the phases of reach and bringup."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.gpus import gpu_environment
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.plan import Plan
from mlxctl.profile import Node, Profile

if TYPE_CHECKING:
    from mlxctl.launch.bringup import LossWatch
    from mlxctl.launch.claims import Claim
    from mlxctl.launch.node_shell import NodeLook
    from mlxctl.launch.provision import Installed
    from mlxctl.launch.ssh import Remote
    from mlxctl.launch.stages import Leases, StageConnection
    from mlxctl.launch.weights import Distribution
    from mlxctl.launch.worker_process import WorkerProcess

LOOPBACK = "127.0.0.1"


@dataclass(slots=True)
class Machine:
    """One machine reached over SSH and the nodes of the profile that run on it; None: not found or made yet."""

    nodes: tuple[Node, ...]
    remote: Remote | None = None
    look: NodeLook | None = None
    claim: Claim | None = None
    installed: Installed | None = None

    @property
    def node(self) -> Node:
        """The one to log in by and to name it by."""
        return self.nodes[0]


def machines_of(profile: Profile) -> list[Machine]:
    """The machines that the profile reaches over SSH: nodes with the same way in are on one."""
    by_way: dict[tuple[str, str | None, int], list[Node]] = {}
    for node in profile.nodes:
        if not node.is_local:
            by_way.setdefault((node.host, node.user, node.ssh_port), []).append(node)
    return [Machine(tuple(nodes)) for nodes in by_way.values()]


@dataclass(slots=True)
class Launch:
    """What the phases find and make, in the order in which they do. `any_port`: a private cluster takes free ports.

    Nodes in `separate_stores` act as other machines although they are processes of this one: each keeps weights in the
    folder given for it and reads no folder of a model. Tests bring up clusters of bare nodes with it.
    """

    profile: Profile
    name: str
    any_port: bool
    accept_new_host_keys: bool = False
    wheelhouse: Path | None = None
    separate_stores: Mapping[str, Path] = field(default_factory=dict)
    machines: list[Machine] = field(default_factory=list)
    nodes: tuple[NodeFacts, ...] = ()
    model: ModelFacts | None = None
    plan: Plan | None = None
    authority: CertificateAuthority = field(default_factory=CertificateAuthority)
    workers: list[WorkerProcess] = field(default_factory=list)
    connections: list[StageConnection] = field(default_factory=list)
    leases: Leases | None = None
    watch: LossWatch | None = None
    distribution: Distribution | None = None
    unreached: set[str] = field(default_factory=set)  # nodes that could not be asked whether they are clean
    deployment_id: str = field(default_factory=lambda: secrets.token_hex(4))

    def __post_init__(self) -> None:
        self.machines = machines_of(self.profile)

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(node for node in self.profile.nodes if node.name == name)

    def machine(self, node: str) -> Machine | None:
        """The machine that `node` runs on; None: this one."""
        return next((each for each in self.machines if node in [n.name for n in each.nodes]), None)

    def gpu_environment(self, node: str, nodes: Sequence[str]) -> dict[str, str]:
        """Of the process of `node`, which runs here: its GPU among those for all of `nodes` that do."""
        local = [each for each in nodes if self.machine(each) is None]
        return gpu_environment(local.index(node), len(local))

    def address(self, node: Node) -> str:
        """Where the worker of `node` listens: its data address, else where it is reached, and nowhere beyond."""
        if node.data_address is not None:
            return node.data_address
        machine = self.machine(node.name)
        if machine is not None:
            assert machine.look is not None
            return machine.look.address
        remotes = [machine.remote for machine in self.machines if machine.remote is not None]
        return next((address for remote in remotes if (address := remote.local_address)), LOOPBACK)
