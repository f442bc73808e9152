"""`mlxctl bench`: measure clusters of 1, 2, 4 … devices, and write a report that can be believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxctl.cli.output import console, say

if TYPE_CHECKING:
    from mlxctl.bench.prepare import Wish
    from mlxctl.bench.records import Head, Link
    from mlxctl.bench.report import Report
    from mlxctl.bench.runner import Opener, Watcher
    from mlxctl.bench.suites import Suite
    from mlxctl.profile import Profile

ERROR_EXIT = 1
INTERRUPTED_EXIT = 130


def bench(
    profile: Annotated[str | None, typer.Argument(help="a profile; default: two workers on this machine")] = None,
    devices: Annotated[str | None, typer.Option(help="numbers of devices, such as 1,2,4; default: 1 and all")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="few workloads, under a minute with a small model")] = False,
    full: Annotated[bool, typer.Option("--full", help="every workload, narrow intervals: hours")] = False,
    model: Annotated[str | None, typer.Option(help="instead of the profile's model")] = None,
    random_weights: Annotated[
        str | None, typer.Option(help="a well-known model's shape with random weights: nothing is downloaded")
    ] = None,
    context: Annotated[int | None, typer.Option(help="tokens per sequence, instead of the profile's")] = None,
    pp: Annotated[str | None, typer.Option(help="prompt lengths to read, such as 128,2048")] = None,
    tg: Annotated[int | None, typer.Option(min=2, help="tokens to decode, at every --depth")] = None,
    depth: Annotated[str | None, typer.Option(help="tokens in the context before decoding, such as 0,4096")] = None,
    concurrency: Annotated[str | None, typer.Option(help="streams at once, such as 1,4,16")] = None,
    rate: Annotated[str | None, typer.Option(help="requests a second that arrive at random, such as 0.5,2")] = None,
    turns: Annotated[int | None, typer.Option(min=2, help="turns of a chat")] = None,
    prompts: Annotated[Path | None, typer.Option(help="a file with a prompt a line")] = None,
    runs: Annotated[str | None, typer.Option(help="least and most runs of a workload, such as 6,20")] = None,
    seed: Annotated[int, typer.Option(help="of prompts, orders and arrivals")] = 0,
    local: Annotated[bool, typer.Option("--local", help="every node as a process on this machine")] = False,
    attach: Annotated[str | None, typer.Option(help="measure this running cluster, and leave it running")] = None,
    wheelhouse: Annotated[Path | None, typer.Option(help="folder of wheels for nodes without internet")] = None,
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", help="report file: .json .html .md .csv; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the report on stdout")] = False,
) -> None:
    """Measure a model on 1, 2, 4 … devices and say what more devices give.

    Parts: `bench compare A B`, `bench show REPORT`, `bench http URL`, `bench links`, `bench engine`; each has its own
    --help. The definitions of all figures are in the report and in the README.
    """
    from mlxctl.bench.prepare import Wish, parse_counts
    from mlxctl.cli.bench_options import attached_cluster, check_conflicts, chosen_profile, chosen_suite, profile_text
    from mlxctl.cli.bench_output import outputs

    check_conflicts(
        attach,
        {"PROFILE": profile, "--devices": devices, "--context": context, "--local": local, "--wheelhouse": wheelhouse},
        model,
        random_weights,
    )
    suite = chosen_suite(quick, full, asked(pp, tg, depth, concurrency, rate, turns, prompts, runs))
    cluster = attached_cluster(attach) if attach is not None else None
    if cluster is not None:
        chosen = cluster.profile
        counts: tuple[int, ...] = (len(cluster.status()["stages"]),)
        suite = replace(suite, rounds=1)
    else:
        overrides = {"model": f"random:{random_weights}" if random_weights else model, "context": context}
        chosen = chosen_profile(profile, overrides, suite, local=local)
        counts = parse_counts(devices or f"1,{len(chosen.nodes)}", len(chosen.nodes))
    files = outputs(output or [], chosen.name)
    wish = Wish(suite, seed, counts, f"bench of {chosen.name}", attached=cluster is not None)
    report = _measure(chosen, profile_text(profile, chosen), wish, files, cluster, wheelhouse)
    finish(report, files, as_json=as_json)


def asked(
    pp: str | None,
    tg: int | None,
    depth: str | None,
    concurrency: str | None,
    rate: str | None,
    turns: int | None,
    prompts: Path | None,
    runs: str | None,
) -> dict[str, Any]:
    """What the options of a suite say, by its fields; None where nothing was said. Raises UsageError."""
    from mlxctl.cli.bench_options import numbers, prompt_lines

    least_most = numbers("--runs", runs, int)
    return {
        "prefill": numbers("--pp", pp, int),
        "decode_tokens": tg,
        "depths": numbers("--depth", depth, int) or ((0,) if tg is not None else None),
        "streams": numbers("--concurrency", concurrency, int),
        "rates": numbers("--rate", rate, float),
        "turns": turns,
        "prompts": prompt_lines(prompts) if prompts is not None else None,
        "least_runs": least_most[0] if least_most else None,
        "most_runs": least_most[-1] if least_most else None,
    }


def _measure(
    profile: Profile, text: str, wish: Wish, files: list[Path], cluster: Any, wheelhouse: Path | None
) -> Report:
    from mlxctl.bench.prepare import local_head
    from mlxctl.bench.prompts import load_tokenizer
    from mlxctl.bench.runner import Target, private_clusters, running_target

    links, fault = (
        ((), "a running cluster holds its nodes") if cluster is not None else _links(profile, wish, wheelhouse)
    )
    head = local_head(profile, text, wish, say).model_copy(update={"links": links, "links_fault": fault})
    tokenizer = load_tokenizer(profile.model)

    def opener(watcher: Watcher) -> Opener:
        if cluster is not None:
            return running_target(Target(cluster.base_url, cluster.profile.model, cluster.api_key))
        return private_clusters(profile, watcher, wheelhouse)

    return run_bench(head, wish.suite, opener, tokenizer, files)


def _links(profile: Profile, wish: Wish, wheelhouse: Path | None) -> tuple[tuple[Link, ...], str | None]:
    """The links between the nodes to be used, which the planner is told too; or why there are none."""
    import asyncio

    from mlxctl.bench.link_probe import kept_of_probe, probe_links
    from mlxctl.errors import MlxctlError
    from mlxctl.launch.measured_links import keep_links

    chosen = profile.first(max(wish.counts))
    if len(chosen.nodes) < 2:
        return (), None
    say("measuring links …")
    try:
        links = asyncio.run(probe_links(chosen, wheelhouse))
    except MlxctlError as error:
        return (), error.line
    keep_links(kept_of_probe(links, chosen))
    return links, None


def run_bench(head: Head, suite: Suite, opener: Any, tokenizer: Any, files: list[Path]) -> Report:
    """Run everything, journal beside the first of `files`. Ctrl-C keeps what was measured; an error does too, and is
    raised once the report is written.
    """
    from mlxctl.bench.build import build
    from mlxctl.bench.journal import JournalWriter, sort_lines
    from mlxctl.bench.runner import Bench
    from mlxctl.cli.bench_output import journal_path, write_all
    from mlxctl.cli.bench_progress import bench_progress
    from mlxctl.errors import MlxctlError

    fault: MlxctlError | None = None
    with JournalWriter(journal_path(files)) as journal:
        journal.write(head)
        try:
            with bench_progress(len(head.protocol.plan), suite.budget_s) as watcher:
                Bench(head, suite, opener(watcher), tokenizer, watcher).run(journal)
            journal.write(_end("complete"))
        except KeyboardInterrupt:
            say("interrupted; what was measured is kept")
            journal.write(_end("interrupted"))
        except MlxctlError as error:
            fault = error
            journal.write(_end("failed", error.line))
        report = build(sort_lines(journal.lines))
    if fault is not None:
        if report.results:
            write_all(report, files)
        raise fault
    return report


def _end(how: Any, message: str | None = None) -> Any:
    from mlxctl.bench.environment import this_host
    from mlxctl.bench.moments import utc_now
    from mlxctl.bench.records import End

    return End(ended_at=utc_now(), how=how, message=message, hosts=(this_host(None),))


def finish(report: Report, files: list[Path], *, as_json: bool) -> None:
    """Show the report, write its files, and leave with 1 if something is wrong, 130 if it was interrupted."""
    from mlxctl.cli.bench_output import write_all
    from mlxctl.cli.bench_summary import render

    if as_json:
        print(report.to_json(), end="")
    else:
        console().print(render(report))
    write_all(report, files)
    if report.how_it_ended == "interrupted":
        raise typer.Exit(INTERRUPTED_EXIT)
    if report.has_error:
        raise typer.Exit(ERROR_EXIT)
