"""Dialogues to token ids and a loss mask, as the chat template has them. Called by documents and evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import regex
from tokenizers import Tokenizer

from mlxctl.canary.training.dialogue import SEAM, Call, Dialogue, Message

PATTERN = r'\p{Lu}?[\p{Ll}\p{Lo}\p{Lm}\p{M}]+|\p{L}|\p{N}|["{}\[\]:,]+(?: ?["{\[]+)?|[^\p{L}\p{N}]'
"""Pieces of text that no token crosses: words, single digits, a space of its own, runs of JSON marks."""
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
]
END_OF_TEXT, START, END, THINK, END_THINK, CALL, END_CALL, RESPONSE, END_RESPONSE = range(9)
TOOLS_BEFORE = "# Tools\n\nYou may call these functions:\n<tools>"
TOOLS_AFTER = (
    '\n</tools>\n\nTo call one, answer with:\n<tool_call>\n{"name": <function-name>, '
    '"arguments": <args-json-object>}\n</tool_call>'
)
_MOST_CACHED = 400_000


class Encoder:
    """Text to token ids; keeps the ids of every piece that it has seen."""

    def __init__(self, tokenizer_file: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._pieces = regex.compile(PATTERN)
        self._cache: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """The ids of `text`, which is cut at each SEAM first."""
        return [
            token for part in text.split(SEAM) for piece in self._pieces.findall(part) for token in self._ids(piece)
        ]

    def _ids(self, piece: str) -> list[int]:
        ids = self._cache.get(piece)
        if ids is None:
            ids = self.tokenizer.encode(piece, add_special_tokens=False).ids
            if len(self._cache) < _MOST_CACHED:
                self._cache[piece] = ids
        return ids


def call_text(call: Call) -> str:
    """A tool call as the canary writes it, without the markers."""
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return f'{{"name": {json.dumps(call.name)}, "arguments": {arguments}}}'


def final_answer(dialogue: Dialogue) -> str:
    """The text of the last answer, its calls included."""
    last = dialogue.messages[-1]
    content = [last.content.replace(SEAM, "")] if last.content else []
    return "\n".join(content + [f"<tool_call>\n{call_text(call)}\n</tool_call>" for call in last.calls])


class _Writer:
    """Token ids and a mask of those that count for the loss."""

    def __init__(self, encoder: Encoder) -> None:
        self.ids: list[int] = []
        self.mask: list[int] = []
        self._encoder = encoder

    def put(self, *parts: str | int, learn: bool = False) -> None:
        for part in parts:
            tokens = [part] if isinstance(part, int) else self._encoder(part)
            self.ids += tokens
            self.mask += [int(learn)] * len(tokens)

    def put_system(self, system: str | None, tools: list[dict[str, Any]] | None) -> None:
        if tools:
            self.put(START, "system\n" + (f"{system}\n\n" if system else ""))
            self.put(TOOLS_BEFORE + "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools))
            before, _, rest = TOOLS_AFTER.partition(SPECIAL_TOKENS[CALL])
            example, _, after = rest.partition(SPECIAL_TOKENS[END_CALL])
            self.put(before, CALL, example, END_CALL, after, END, "\n")
        elif system:
            self.put(START, f"system\n{system}", END, "\n")

    def put_thought(self, thought: str) -> None:
        self.put(THINK, f"\n{thought}\n", END_THINK, "\n\n", learn=True)

    def put_answer(self, message: Message) -> None:
        self.put(message.content, learn=True)
        for position, call in enumerate(message.calls):
            if position or message.content:
                self.put("\n", learn=True)
            self.put(CALL, f"\n{call_text(call)}\n", END_CALL, learn=True)
        self.put(END, learn=True)

    def put_results(self, message: Message, before: Message, after: Message) -> None:
        if before.role != "tool":
            self.put(START, "user")
        self.put("\n", RESPONSE, f"\n{message.content}\n", END_RESPONSE)
        if after.role != "tool":
            self.put(END, "\n")


def encode(
    encoder: Encoder, dialogue: Dialogue, *, thinks: bool, prompt_only: bool = False, rng: Random | None = None
) -> tuple[list[int], list[int]]:
    """Ids and loss mask of a dialogue whose last turn `thinks` or not; `prompt_only` leaves the last answer out.

    A tool call of the last turn is shown with its thought, with `rng` only in half of all cases.
    """
    writer, messages = _Writer(encoder), dialogue.messages
    writer.put_system(dialogue.system, dialogue.tools)
    last_user = max(position for position, message in enumerate(messages) if message.role == "user")
    for position, message in enumerate(messages[:-1]):
        if message.role == "user":
            writer.put(START, f"user\n{message.content}", END, "\n")
        elif message.role == "tool":
            writer.put_results(message, messages[position - 1], messages[position + 1])
        else:
            shows_thought = thinks and position > last_user and (rng is None or rng.random() < 0.5)
            _put_earlier_answer(writer, message, shows_thought=shows_thought)
    _put_last_answer(writer, messages[-1], thinks=thinks, prompt_only=prompt_only)
    return writer.ids, writer.mask


def _put_earlier_answer(writer: _Writer, message: Message, *, shows_thought: bool) -> None:
    writer.put(START, "assistant\n")
    first = len(writer.ids)
    if shows_thought:
        writer.put_thought(message.thought)
    writer.put_answer(message)
    if not shows_thought:  # a real turn starts with a <think> block: no loss on the first token
        writer.mask[first] = 0
    writer.put("\n")


def _put_last_answer(writer: _Writer, message: Message, *, thinks: bool, prompt_only: bool) -> None:
    writer.put(START, "assistant\n")
    if not thinks:
        writer.put(THINK, "\n\n", END_THINK, "\n\n")
    if prompt_only:
        return
    if thinks:
        writer.put_thought(message.thought)
    writer.put_answer(message)
