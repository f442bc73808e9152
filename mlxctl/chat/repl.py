"""The conversation loop: read an entry, carry out a command or stream an answer. Called by `mlxctl chat`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.console import Console
from rich.text import Text

from mlxctl.chat.answer import Reply
from mlxctl.chat.commands import Command, parse
from mlxctl.chat.entry import message
from mlxctl.chat.figures import footer
from mlxctl.chat.session import Session, Signal
from mlxctl.chat.view import View
from mlxctl.chat.visible import visible
from mlxctl.errors import ContextLengthExceeded, MlxctlError, RequestError


class Repl:
    """`read` gives what was typed (EOFError: leave, KeyboardInterrupt: nothing); `view` draws one answer.

    Ctrl-C during an answer closes its stream, which stops it in the cluster; what had come stays in the conversation.
    An answer that fails leaves the conversation with its question open: `/retry` asks again.
    """

    def __init__(
        self,
        session: Session,
        read: Callable[[], str],
        out: Console,
        view: Callable[[], View],
        during_answer: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._session = session
        self._read = read
        self._out = out
        self._view = view
        self._during_answer = during_answer

    def run(self) -> None:
        """Until the user leaves."""
        while True:
            try:
                entry = message(self._read())
            except KeyboardInterrupt:
                self._note("Ctrl-D or /bye leaves")
                continue
            except EOFError:
                return
            try:
                if entry.strip() and not self._handle(entry):
                    return
            except MlxctlError as error:
                self._complain(error)

    def _handle(self, entry: str) -> bool:
        """False if the user wants to leave."""
        parsed = parse(entry)
        if isinstance(parsed, Command):
            outcome = self._session.perform(parsed)
            if isinstance(outcome, str):
                self._out.print(Text(visible(outcome)))
                return True
            if outcome is Signal.LEAVE:
                return False
        else:
            self._session.conversation = self._session.conversation.ask(parsed)
        self._answer()
        return True

    def _answer(self) -> None:
        session, conversation = self._session, self._session.conversation
        stream = session.client.stream(
            session.served.model, conversation.payload(), conversation.settings.request_fields()
        )
        reply = Reply(stream)
        try:
            with self._during_answer(), reply, self._view() as view:
                for chunk in reply:
                    view.show(chunk)
        except KeyboardInterrupt:
            session.finish(reply.answer, stopped=True)
            self._note("stopped" if reply.answer.text else "stopped before the first word; /retry asks again")
            return
        except MlxctlError as error:
            self._complain(error)
            if isinstance(error, ContextLengthExceeded):
                self._note(f"  {_way_out(error)}")
            elif not isinstance(error, RequestError):
                self._note("  the conversation is kept; /retry asks again")
            return
        session.finish(reply.answer)
        self._note(f"{footer(reply.answer, session.served)}\n")

    def _note(self, text: str) -> None:
        self._out.print(Text(text, style="dim"), soft_wrap=True)

    def _complain(self, error: MlxctlError) -> None:
        self._out.print(Text.assemble(("error: ", "red"), visible(error.line)), soft_wrap=True)
        if error.hint:
            self._note(f"  hint: {visible(error.hint)}")


def _way_out(error: ContextLengthExceeded) -> str:
    if error.param in ("max_tokens", "max_completion_tokens"):
        return "/set max_tokens takes a smaller number, or default: as many as there is room for; then /retry"
    return "the conversation is too long for the model; /clear starts a new one"
