"""Doctor: visits every machine of a profile, then has them listen and dial each other. Called by `mlxctl doctor`.

Nothing is changed anywhere but, with `fix`, what earlier clusters of ours left.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlxctl.errors import LaunchError
from mlxctl.launch.doctor import judge
from mlxctl.launch.doctor.findings import HERE, Finding, LinkMeasurement, Notes, Report
from mlxctl.launch.doctor.visit import Visit, visit_here, visit_node
from mlxctl.launch.launch import Launch
from mlxctl.launch.phases import FirstError
from mlxctl.launch.processes import port_is_free
from mlxctl.launch.state import list_clusters, living, read_state
from mlxctl.launch.teardown import take_down
from mlxctl.plan.memory import memory_pools
from mlxctl.profile import Node, Profile

PORT_TRIES = 100  # from a grpc_port that nobody asked for, as launch does
LINK_S = 0.3  # of every link's measurement
TOKEN_BYTES = 16

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's probe listens."""

    node: Node
    visit: Visit
    address: str
    port: int


async def diagnose(profile: Profile, say: Say, *, fix: bool = False) -> Report:
    """Every check of every node. Raises LaunchError where this machine itself cannot be asked."""
    began_s = time.monotonic()
    launch = Launch(profile, profile.name, any_port=False)
    here = Visit(None, tuple(node for node in profile.nodes if node.is_local))
    visits = [here, *(Visit(machine, machine.nodes) for machine in launch.machines)]
    try:
        say(f"visiting {len(launch.machines)} machines" if launch.machines else "looking at this machine")
        async with FirstError() as group:
            group.create_task(visit_here(here))
            for visit in visits[1:]:
                group.create_task(visit_node(visit, profile.name, fix=fix))
        _judge_memory(profile, visits)
        links = await _network(launch, visits, say)
    finally:
        await asyncio.gather(*(visit.end() for visit in visits))
    if here.nodes:
        here.shared.skip("leftovers", f"see {HERE}")
    by_node = {name: visit.findings(name) for visit in visits for name in visit.own}
    own = await asyncio.to_thread(_this_machine, profile, fix)
    findings = [*own, *(finding for node in profile.nodes for finding in by_node[node.name])]
    names = [node.name for node in profile.nodes]
    return Report(profile.name, names, findings, links, time.monotonic() - began_s)


def _judge_memory(profile: Profile, visits: Sequence[Visit]) -> None:
    """Notes of memory and GPU limit, by the planner's own budget."""
    known = [(node, visit, visit.system) for visit in visits for node in visit.nodes if visit.system is not None]
    facts = [judge.node_facts(node, visit.name, system) for node, visit, system in known if system is not None]
    pools = {name: pool for pool in memory_pools(profile, facts) for name in pool.nodes}
    for node, visit, system in known:
        assert system is not None
        judge.judge_memory(visit.own[node.name], node, system, pools[node.name])
        judge.judge_wired_limit(visit.own[node.name], node, system)


async def _network(launch: Launch, visits: Sequence[Visit], say: Say) -> list[LinkMeasurement]:
    """Listen where each worker would, dial from every other machine; notes ports, reach and link."""
    token = secrets.token_hex(TOKEN_BYTES)
    ours = _own_ports(launch.profile)
    places: list[Place] = []
    for visit in visits:
        for node in visit.nodes if visit.agent is not None else ():
            probes = {place.port for place in places if place.visit is visit}
            try:
                place = await _listen(launch, visit, node, token, ours, probes)
            except LaunchError as error:
                visit.own[node.name].fail("ports", error.message, "run mlxctl doctor again")
                continue
            if place is not None:
                places.append(place)
    callers = [visit for visit in visits if visit.agent is not None]
    links: list[LinkMeasurement] = []
    for number, place in enumerate(places, 1):
        say(f"measuring links to {place.node.name} ({number} of {len(places)})")
        links += await _dial_all(place, callers, token)
    return links


async def _listen(
    launch: Launch, visit: Visit, node: Node, token: str, ours: set[tuple[str, int]], probes: set[int]
) -> Place | None:
    """Listen for `node`; `ours` are ports of this cluster's workers, `probes` those of other nodes' listeners there."""
    assert visit.agent is not None
    profile = launch.profile
    wanted = profile.grpc_port + list(profile.nodes).index(node)
    tries = 1 if "grpc_port" in profile.model_fields_set else PORT_TRIES
    address = launch.address(node)
    held = {port for name, port in ours if name == node.name}
    answer = (await visit.agent.ask("listen", host=address, port=wanted, tries=tries, token=token)).fields
    answer = {**answer, "taken": [port for port in answer.get("taken", ()) if port not in probes]}
    judge.judge_ports(visit.own[node.name], node, visit.system_name, answer, address, wanted, held)
    if "error" in answer:
        return None
    if answer["port"] is None:  # links can be measured all the same
        answer = (await visit.agent.ask("listen", host=address, port=0, tries=1, token=token)).fields
    return Place(node, visit, address, answer["port"])


async def _dial_all(place: Place, callers: Sequence[Visit], token: str) -> list[LinkMeasurement]:
    """Dial `place` from this machine and every other one, one after the other; notes reach and link of its node."""
    notes = place.visit.own[place.node.name]
    others = [caller for caller in callers if caller is not place.visit or caller.machine is None]
    tries = await asyncio.gather(*(_dial(caller, place, token, 0.0) for caller in others))
    links, failures = [], []
    for caller, answer in zip(others, tries, strict=True):
        if "error" not in answer:  # alone on the link this time
            answer = await _dial(caller, place, token, LINK_S)
        if "error" in answer:
            system = caller.system_name
            why, mend = judge.why_unreached(system, place.address, place.port, answer["errno"], answer["error"])
            failures.append((f"from {caller.name}: {why}", mend))
        else:
            links.append(_link(caller, place, answer))
    if failures:
        notes.fail("reach", "; ".join(why for why, _ in failures), failures[0][1])
    else:
        notes.ok("reach", f"from {', '.join(link.source for link in links)}")
    _judge_links(notes, place, callers, links)
    return links


async def _dial(caller: Visit, place: Place, token: str, for_s: float) -> dict[str, Any]:
    """The caller's answer; an error also where its probe has died."""
    assert caller.agent is not None
    try:
        answer = await caller.agent.ask("dial", host=place.address, port=place.port, token=token, for_s=for_s)
    except LaunchError as error:
        return {"error": error.message, "errno": 0}
    return answer.fields


def _link(caller: Visit, place: Place, answer: dict[str, Any]) -> LinkMeasurement:
    interface = caller.system.interface_of(str(answer["local"])) if caller.system is not None else None
    name, medium = (interface.name, interface.medium) if interface is not None else ("", "unknown")
    return LinkMeasurement(caller.name, place.node.name, answer["rtt_s"], answer["bytes_per_s"], name, medium)


def _judge_links(notes: Notes, place: Place, callers: Sequence[Visit], links: Sequence[LinkMeasurement]) -> None:
    elsewhere = [link for link in links if link.source != place.visit.name]
    if not elsewhere:
        notes.skip("link", "on this machine" if links else "nobody reaches it")
        return
    slowest = min(elsewhere, key=lambda link: link.bytes_per_s)
    way = f"{slowest.medium} {slowest.interface}".strip()
    detail = f"{slowest.rtt_s * 1e3:.2f} ms, {judge.rate(slowest.bytes_per_s)} from {slowest.source} ({way})"
    by_name = {caller.name: caller.system for caller in callers}
    ends = [
        (link.source, next((each for each in system.interfaces if each.name == link.interface), None))
        for link in elsewhere
        if (system := by_name[link.source]) is not None
    ]
    if place.visit.system is not None:
        ends.append((place.node.name, place.visit.system.interface_of(place.address)))
    judge.judge_link(notes, detail, ends)


def _own_ports(profile: Profile) -> set[tuple[str, int]]:
    """Node and port of the workers of this cluster that runs now."""
    state = read_state(profile.name)
    if state is None or state.coordinator not in living(state):
        return set()
    return {(worker.node, int(worker.address.rpartition(":")[2])) for worker in state.workers if worker.address}


def _this_machine(profile: Profile, fix: bool) -> list[Finding]:
    """What only the coordinator's machine has: the API's port, clusters whose coordinator has died."""
    notes = Notes(HERE)
    state = read_state(profile.name)
    port = profile.api.port
    if state is not None and state.coordinator in living(state):
        notes.ok("ports", f"{profile.name} serves at {state.api_url}")
    elif port_is_free(profile.api.host, port):
        notes.ok("ports", f"{port} for the API")
    elif "port" in profile.api.model_fields_set:
        mend = f"set another api.port, or see who has it: sudo lsof -nP -iTCP:{port} -sTCP:LISTEN"
        notes.fail("ports", f"{port}, which the API is to have, is taken", mend)
    else:
        notes.ok("ports", f"{port} is taken: the API takes the next free one")
    dead = [name for name in list_clusters() if (old := read_state(name)) and old.coordinator not in living(old)]
    if dead and fix:
        _remove(notes, dead)
    elif dead:
        notes.fail("leftovers", f"clusters whose coordinator has died: {', '.join(dead)}", "mlxctl doctor --fix")
    else:
        notes.ok("leftovers", "nothing")
    return notes.findings


def _remove(notes: Notes, dead: Sequence[str]) -> None:
    unclean = [report for name in dead for report in take_down(name, 0.0).unclean]
    if unclean:
        why = "; ".join(str(report.problem) for report in unclean)
        notes.fail("leftovers", f"not everywhere removed: {why}", "mlxctl doctor --fix once it can be reached")
    else:
        notes.ok("leftovers", f"removed: {', '.join(dead)}")
