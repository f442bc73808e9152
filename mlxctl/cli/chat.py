"""`mlxctl chat`: a conversation, or one answer on stdout; with nothing running, on a private cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from mlxctl.chat.conversation import Conversation
from mlxctl.chat.settings import Settings
from mlxctl.cli.output import console, is_fancy, print_json, say
from mlxctl.errors import NotRunning, UsageError

if TYPE_CHECKING:
    from mlxctl.chat.answer import Answer
    from mlxctl.chat.client import ChatClient, Served
    from mlxctl.cluster import Cluster

SCHEMA = "mlxctl.chat/1"
MAX_STDIN_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """Which model the flags ask for: at most one of `cluster`, `profile`, `url`; none of them: what runs."""

    cluster: str | None
    profile: Path | None
    url: str | None
    api_key_file: Path | None


def chat(
    prompt: Annotated[str | None, typer.Argument(help="the message; piped stdin is added below it")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="NAME", help="the running cluster to talk to")] = None,
    profile: Annotated[Path | None, typer.Option(help="its cluster, or a private one of it")] = None,
    url: Annotated[str | None, typer.Option(help="any OpenAI-compatible API, as http://host:port/v1")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="the file with the key of --url")] = None,
    system: Annotated[str, typer.Option(help="the system prompt")] = "",
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 is greedy")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="longest answer, in tokens")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="same seed, same answer")] = None,
    think: Annotated[bool, typer.Option("--think/--no-think", help="let the model think first")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object: text, usage, speed")] = False,
) -> None:
    """Talk to the model: a conversation, or with PROMPT or piped stdin one answer on stdout."""
    if sum(each is not None for each in (cluster, profile, url)) > 1:
        raise UsageError("--cluster, --profile and --url exclude each other")
    if api_key_file is not None and url is None:
        raise UsageError("--api-key-file belongs to --url", hint="a cluster's key is named in its profile")
    question = _question(prompt)
    if question is None and (as_json or not sys.stdout.isatty()):
        raise UsageError("a conversation needs a terminal", hint="give the message as an argument or on stdin")
    settings = Settings(temperature=temperature, max_tokens=max_tokens, seed=seed, think=think)
    conversation = Conversation(system=system, settings=settings)
    with _client(Target(cluster, profile, url, api_key_file)) as client:
        if question is None:
            _converse(client, conversation)
        else:
            _answer_once(client, conversation.ask(question), as_json=as_json)


def _question(prompt: str | None) -> str | None:
    """Argument and piped stdin in one message; None if there is neither: a conversation."""
    if prompt is None and sys.stdin.isatty():
        return None
    piped = "" if sys.stdin.isatty() else _read_stdin()
    question = "\n\n".join(part for part in ((prompt or "").strip(), piped.strip()) if part)
    if not question:
        raise UsageError("the message is empty")
    return question


def _read_stdin() -> str:
    content = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(content) > MAX_STDIN_BYTES:
        raise UsageError(f"stdin holds more than {MAX_STDIN_BYTES >> 20} MiB: too long for any model")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8 text: {error.reason} at byte {error.start}") from error


@contextmanager
def _client(target: Target) -> Iterator[ChatClient]:
    from mlxctl.chat.client import ChatClient
    from mlxctl.profile import Api

    if target.url is not None:
        base_url = target.url if urlsplit(target.url).path.strip("/") else f"{target.url.rstrip('/')}/v1"
        hint = "name the file with its key: --api-key-file FILE"
        with ChatClient(base_url, Api(api_key_file=target.api_key_file).read_key(), hint) as client:
            yield client
        return
    with (
        _cluster(target) as cluster,
        ChatClient(cluster.base_url, cluster.api_key, cluster.profile.api.key_hint) as client,
    ):
        yield client


@contextmanager
def _cluster(target: Target) -> Iterator[Cluster]:
    """The running cluster that is meant; with none running, a private one that lives as long as this context."""
    from mlxctl.cli.progress import progress
    from mlxctl.cluster import Cluster

    name = _cluster_name(target)
    if name is not None:
        yield Cluster.attach(name)
        return
    with progress() as on_event:
        private = Cluster.up(target.profile, private=True, on_event=on_event)
    with private:
        yield private


def _cluster_name(target: Target) -> str | None:
    """The cluster to attach to, None for a private one. Raises NotRunning if it cannot be asked, UsageError."""
    from mlxctl.cli.clusters import known, not_running

    name = target.cluster or _only_name(target.profile)
    if name is None:
        return None
    cluster = known(name)
    if cluster is None or cluster.life == "gone":
        raise not_running(name, cluster)
    if cluster.life == "starting":
        raise NotRunning(f"{name} is still coming up", hint=f"mlxctl status {name} --watch")
    return name


def _only_name(profile: Path | None) -> str | None:
    """The cluster of the profile, or the only one; also one that died, for its user should know. Raises UsageError."""
    from mlxctl.cli.clusters import lasting, running_names
    from mlxctl.profile import load_profile

    there = [cluster.name for cluster in lasting()]
    if profile is not None:
        name = load_profile(profile).name
        return name if name in there else None
    running = running_names()
    if len(running) > 1:
        raise UsageError(f"several clusters are running: {', '.join(running)}", hint="choose with --cluster NAME")
    return next(iter(running or there), None)


def _answer_once(client: ChatClient, conversation: Conversation, *, as_json: bool) -> None:
    from mlxctl.chat.answer import Reply

    served = client.served()
    stream = client.stream(served.model, conversation.payload(), conversation.settings.request_fields())
    out = _Stdout(silent=as_json)
    with Reply(stream) as reply, out:
        for chunk in reply:
            out.write(chunk.text)
    if as_json:
        print_json(_document(reply.answer, served))
    elif reply.answer.finish_reason == "length":
        say("note: the answer was cut at the token limit; --max-tokens sets another one")


class _Stdout:
    """Streams text to stdout from its first word on, and ends its last line."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._last = ""

    def __enter__(self) -> _Stdout:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last and not self._last.endswith("\n"):
            self.write("\n")

    def write(self, text: str) -> None:
        from mlxctl.chat.visible import visible

        shown = visible(text) if sys.stdout.isatty() else text
        shown = shown if self._last else shown.lstrip("\n")
        if shown and not self._silent:
            sys.stdout.write(shown)
            sys.stdout.flush()
            self._last = shown


def _document(answer: Answer, served: Served) -> dict[str, object]:
    usage = answer.usage
    return {
        "schema": SCHEMA,
        "text": answer.text,
        "reasoning": answer.reasoning,
        "finish_reason": answer.finish_reason,
        "usage": usage and {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
        "ttft_s": answer.ttft_s,
        "tokens_per_s": answer.tokens_per_s,
        "model": served.model,
    }


def _converse(client: ChatClient, conversation: Conversation) -> None:
    from mlxctl.chat.figures import greeting, toolbar
    from mlxctl.chat.repl import Repl
    from mlxctl.chat.session import Session
    from mlxctl.chat.terminal import Terminal, keys_unechoed
    from mlxctl.chat.view import MarkdownView, PlainView
    from mlxctl.paths import history_file, make_home

    make_home()
    out = console()
    session = Session(client, client.served(), conversation)
    out.print(greeting(session.served, client.base_url), soft_wrap=True, markup=False)
    terminal = Terminal(history_file(), lambda: toolbar(session.served, session.last_answer))
    view = MarkdownView if is_fancy(sys.stdout) else PlainView
    Repl(session, terminal.read, out, lambda: view(out), keys_unechoed).run()
