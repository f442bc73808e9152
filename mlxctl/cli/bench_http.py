"""`mlxctl bench http`: the same workloads against any OpenAI-compatible server, so that like is compared with like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from mlxctl.cli.output import say


def http(
    url: Annotated[str, typer.Argument(help="the API, such as http://127.0.0.1:11434/v1 (Ollama)")],
    model: Annotated[str | None, typer.Option(help="the model's id there; default: the first that it lists")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="folder, hub id or canary: makes prompts of exact lengths, counts tokens")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="a file that holds the server's key")] = None,
    context: Annotated[int, typer.Option(min=64, help="tokens per sequence that the server takes")] = 4096,
    quick: Annotated[bool, typer.Option("--quick", help="few workloads")] = False,
    full: Annotated[bool, typer.Option("--full", help="every workload, narrow intervals")] = False,
    pp: Annotated[str | None, typer.Option(help="prompt lengths to read, such as 128,2048")] = None,
    tg: Annotated[int | None, typer.Option(min=2, help="tokens to decode, at every --depth")] = None,
    depth: Annotated[str | None, typer.Option(help="tokens in the context before decoding, such as 0,4096")] = None,
    concurrency: Annotated[str | None, typer.Option(help="streams at once, such as 1,4,16")] = None,
    rate: Annotated[str | None, typer.Option(help="requests a second that arrive at random, such as 0.5,2")] = None,
    turns: Annotated[int | None, typer.Option(min=2, help="turns of a chat")] = None,
    prompts: Annotated[Path | None, typer.Option(help="a file with a prompt a line")] = None,
    runs: Annotated[str | None, typer.Option(help="least and most runs of a workload, such as 6,20")] = None,
    seed: Annotated[int, typer.Option(help="of prompts, orders and arrivals")] = 0,
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", help="report file: .json .html .md .csv; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the report on stdout")] = False,
) -> None:
    """Measure any OpenAI-compatible server: Ollama, LM Studio, mlx_lm.server, exo, or a cluster of ours."""
    from mlxctl.bench.prepare import Wish, foreign_head
    from mlxctl.bench.prompts import load_tokenizer
    from mlxctl.bench.runner import Target, running_target
    from mlxctl.chat.client import ChatClient
    from mlxctl.cli.bench import asked, finish, run_bench
    from mlxctl.cli.bench_options import chosen_suite
    from mlxctl.cli.bench_output import outputs
    from mlxctl.profile import Api

    chosen = chosen_suite(quick, full, asked(pp, tg, depth, concurrency, rate, turns, prompts, runs))
    suite = replace(chosen, rounds=1)
    files = outputs(output or [], urlsplit(url).hostname or "http")
    key = Api(api_key_file=api_key_file).read_key()
    if model is None:
        with ChatClient(url, key) as client:
            model = client.served().model
    counter = load_tokenizer(tokenizer) if tokenizer is not None else None
    if counter is None:
        say("note: without --tokenizer prompts are about as long as asked, and the server counts the tokens")
    head = foreign_head(model, Wish(suite, seed, (0,), f"bench of {url}"), context, max(suite.streams, default=1))
    target = running_target(Target(url, model, key))
    finish(run_bench(head, suite, lambda watcher: target, counter, files), files, as_json=as_json)
