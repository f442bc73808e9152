"""The head of a journal: everything that is known of a bench before it runs. Called by `mlxctl bench`."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlxctl.bench import environment
from mlxctl.bench.energy import SOURCE, energy_fault
from mlxctl.bench.expect import Ground, expectation, model_record
from mlxctl.bench.moments import utc_now
from mlxctl.bench.records import Head, Host, Model, Protocol, Workload
from mlxctl.bench.schedule import CLOSE, visit_plan
from mlxctl.bench.suites import Suite, workloads
from mlxctl.errors import UsageError
from mlxctl.facts import ModelFacts
from mlxctl.profile import Profile

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be measured, how often, from which seed."""

    suite: Suite
    seed: int
    counts: tuple[int, ...]
    title: str
    attached: bool = False


def local_head(profile: Profile, profile_text: str, wish: Wish, say: Say) -> Head:
    """The head for clusters of `profile`. Measures this machine first. Raises UsageError, CheckpointError."""
    from mlxctl.checkpoint import read_model_facts
    from mlxctl.checkpoint.speed import with_measured_speed
    from mlxctl.launch.probe import known_nodes

    for count in wish.counts:
        profile.first(count)
    say("measuring this machine …")
    model = read_model_facts(profile.model, weights_required=False)
    nodes = known_nodes(profile)
    local = [node.name for node in profile.nodes if node.is_local]
    timed = with_measured_speed(nodes, local, model)
    used = {node.name for node in profile.nodes[: max(wish.counts)]}
    bandwidth = environment.measured_bandwidth() if local else None
    hosts = environment.hosts([node for node in nodes if node.name in used], local, bandwidth)
    private_here = bool(local) and not wish.attached
    no_energy = energy_fault() if private_here else "it is read of clusters of the bench's own, on this machine"
    chosen = workloads(wish.suite, _context(profile, model), profile.concurrency)
    ground = Ground(nodes, timed, hosts, model)
    return Head(
        **_common(wish, chosen, hosts, model_record(model)),
        target="attached" if wish.attached else "cluster",
        energy_source=SOURCE if no_energy is None else None,
        energy_fault=no_energy,
        profile=profile_text,
        expectations=tuple(expectation(profile, count, ground, chosen) for count in sorted(set(wish.counts))),
    )


def foreign_head(model: str, wish: Wish, context: int, concurrency: int) -> Head:
    """The head for a server of which only the API is known. Its host is unknown; ours is the client's."""
    chosen = workloads(wish.suite, context, concurrency)
    host = environment.this_host(None)
    return Head(**_common(wish, chosen, (host,), Model(name=model)), target="http", profile=None)


def _common(wish: Wish, chosen: Sequence[Workload], hosts: tuple[Host, ...], model: Model) -> dict[str, Any]:
    suite = wish.suite
    return {
        "id": secrets.token_hex(8),
        "started_at": utc_now(),
        "title": wish.title,
        "tool": environment.tool(),
        "argv": tuple(sys.argv),
        "hosts": hosts,
        "model": model,
        "protocol": Protocol(
            suite=suite.name,
            seed=wish.seed,
            plan=visit_plan(wish.counts, suite.rounds),
            least_runs=suite.least_runs,
            most_runs=suite.most_runs,
            target_half_width=suite.target_half_width,
            warm_up=f"on every launch each workload runs until two runs in a row differ by less than {CLOSE:.0%}, "
            f"at most {suite.most_warm_ups} times; these runs are kept and not counted",
            stop=f"each workload runs {suite.least_runs} times at least, then until the 95 % interval of its first "
            f"metric is narrower than ±{suite.target_half_width:.0%}, at most {suite.most_runs} times"
            + (f"; all ends after {suite.budget_s:.0f} s" if suite.budget_s else ""),
            budget_s=suite.budget_s,
        ),
        "workloads": tuple(chosen),
    }


def _context(profile: Profile, model: ModelFacts) -> int:
    """Tokens that a sequence may have: what the profile asks for, else what the planner takes."""
    from mlxctl.plan.problem import planned_context

    return planned_context(profile, model)


def parse_counts(text: str, nodes: int) -> tuple[int, ...]:
    """`1,2,4` → (1, 2, 4), each once, in order. Raises UsageError."""
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UsageError(f"--devices {text!r} is no list of numbers", hint="such as --devices 1,2,4") from None
    if not counts or counts[0] < 1 or counts[-1] > nodes:
        raise UsageError(f"--devices {text}: the profile has {nodes} nodes", hint=f"give numbers from 1 to {nodes}")
    return counts
