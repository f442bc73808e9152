"""`mlxctl plan`: which node would run which layers, and why. Loads nothing but a few layers to time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlxctl.facts import ModelFacts, NodeFacts
    from mlxctl.profile import Profile


def plan(
    profile: Annotated[str | None, typer.Argument(help="a profile; default: two workers on this machine")] = None,
    model: Annotated[str | None, typer.Option(help="instead of the profile's model")] = None,
    context: Annotated[int | None, typer.Option(help="tokens per sequence, instead of the profile's")] = None,
    concurrency: Annotated[int | None, typer.Option(help="sequences at once, instead of the profile's")] = None,
    objective: Annotated[str | None, typer.Option(help="throughput or latency, instead of the profile's")] = None,
    without: Annotated[list[str] | None, typer.Option(help="leave this node out (may be repeated)")] = None,
    local: Annotated[bool, typer.Option("--local", help="every node as a process on this machine")] = False,
    simulate: Annotated[Path | None, typer.Option(help="plan for the machines that this file describes")] = None,
    measure: Annotated[bool, typer.Option(help="time a few layers here, where this machine is a node")] = True,
    as_json: Annotated[bool, typer.Option("--json", help='the plan as "mlxctl.plan/1"')] = False,
) -> None:
    """Show which node would run which layers, and why."""
    from mlxctl.cli.output import console, print_json
    from mlxctl.cli.plan_view import as_document, render
    from mlxctl.plan.report import make_report
    from mlxctl.profile import load_profile

    overrides = {"model": model, "context": context, "concurrency": concurrency, "objective": objective}
    chosen = load_profile(profile, overrides)
    chosen = chosen.emulated_locally() if local else chosen
    chosen, nodes = _machines(chosen, simulate)
    facts = _model(chosen.model)
    timed = _timed(chosen, nodes, facts) if measure and simulate is None else nodes
    report = make_report(chosen, nodes, facts, timed, without or [])
    if as_json:
        print_json(as_document(report))
    else:
        out = console()
        out.print(render(report, out.width))


def _machines(profile: Profile, simulate: Path | None) -> tuple[Profile, tuple[NodeFacts, ...]]:
    """The nodes to plan for; those of a facts file take the place of the profile's."""
    if simulate is None:
        from mlxctl.launch.probe import known_nodes

        return profile, known_nodes(profile)
    from mlxctl.hardware import read_facts_file
    from mlxctl.profile import Node

    nodes = read_facts_file(simulate)
    known = {node.name: node for node in profile.nodes}
    wanted = tuple(known.get(facts.name) or Node(name=facts.name, host=facts.name) for facts in nodes)
    return profile.model_copy(update={"nodes": wanted}), nodes


def _model(name: str) -> ModelFacts:
    from mlxctl.checkpoint import read_model_facts

    return read_model_facts(name, weights_required=False)


def _timed(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts) -> tuple[NodeFacts, ...]:
    """The facts with this machine's speed measured, if it is a node and the weights are here."""
    from mlxctl.checkpoint.speed import with_measured_speed

    return with_measured_speed(nodes, {node.name for node in profile.nodes if node.is_local}, model)
