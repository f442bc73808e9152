"""Text to token ids and back: chat template, stop ids, markers, tool calls. Called by the API and the coordinator."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from mlxctl.errors import CheckpointError, ContextLengthExceeded, RequestError
from mlxctl.request import Sampling

REPLACEMENT = "\ufffd"
# A normalizer may shrink text before it is cut into tokens; nothing real shrinks it by more.
NORMALIZER_SLACK = 4


def _byte_level_alphabet() -> dict[str, int]:
    """Character to byte, as byte-level vocabularies write bytes: printable ones as they are, others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_LEVEL = _byte_level_alphabet()

Transitions = Mapping[str, Sequence[tuple[str, str]]]
"""For each state of the output ("normal", "reasoning", "tool" …) the markers that end it and the state that follows."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered conversation. `state` is the output's first state: "reasoning" where the template opened it."""

    ids: tuple[int, ...]
    state: str


class Detokenizer:
    """Token ids in, text out, never half a character. All pieces joined equal the decode of all tokens at once."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        # The last piece's tokens stay in the window: some decoders treat the first token of a text differently.
        self._window: list[int] = []
        self._settled = 0
        self._settled_text = ""

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._window.append(token)
        text = self._decode(self._window)
        if text.endswith(REPLACEMENT):
            return ""
        piece = text[len(self._settled_text) :]
        self._window = self._window[self._settled :]
        self._settled = len(self._window)
        self._settled_text = self._decode(self._window)
        return piece

    def finish(self) -> str:
        """What is left: a character that never became whole, as replacement characters."""
        piece = self._decode(self._window)[len(self._settled_text) :]
        self._window, self._settled, self._settled_text = [], 0, ""
        return piece


class Tokenizer:
    """A model's tokenizer as mlx_lm loads it; never runs code that came with the model."""

    def __init__(self, wrapper: Any, generation_config: Mapping[str, Any]) -> None:
        self._wrapper = wrapper
        self._generation_config = generation_config

    @classmethod
    def load(cls, path: Path) -> Self:
        """The tokenizer in the model directory `path`. Raises CheckpointError."""
        # Imported late: mlx_lm and transformers take two seconds.
        from mlx_lm.utils import load_config, load_tokenizer

        if not path.is_dir():
            raise CheckpointError(f"{path} is not a model directory")
        try:
            config = load_config(path)
            wrapper = load_tokenizer(path, {"trust_remote_code": False}, eos_token_ids=config.get("eos_token_id"))
            return cls(wrapper, _read_json(path / "generation_config.json"))
        except Exception as error:  # whatever a foreign loader makes of a broken file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"the tokenizer in {path} cannot be loaded: {reason}") from error

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: those of the tokenizer, config.json and generation_config.json."""
        return frozenset(self._wrapper.eos_token_ids)

    @cached_property
    def sampling(self) -> Sampling:
        """How the model's generation_config.json wants to be sampled; temperature 1 where it says nothing."""
        config = self._generation_config
        if config.get("do_sample") is False:
            return Sampling(temperature=0.0)
        return Sampling(
            temperature=float(_or(config.get("temperature"), 1.0)),
            top_k=int(_or(config.get("top_k"), 0)),
            top_p=float(_or(config.get("top_p"), 1.0)),
            min_p=float(_or(config.get("min_p"), 0.0)),
        )

    @property
    def has_tools(self) -> bool:
        """Whether tool calls of this model can be read."""
        return bool(self._wrapper.has_tool_calling)

    @property
    def has_thinking(self) -> bool:
        """Whether this model marks its thinking."""
        return bool(self._wrapper.has_thinking)

    def transitions(self, *, tools: bool) -> dict[str, list[tuple[str, str]]]:
        """The markers in this model's output. Without `tools` a tool call is plain text."""
        wrapper = self._wrapper
        edges: dict[str, list[tuple[str, str]]] = {"normal": []}
        if wrapper.has_thinking:
            edges["normal"].append((wrapper.think_start, "reasoning"))
            edges["reasoning"] = [(wrapper.think_end, "normal")]
        edges["normal"] += [(marker, "normal") for marker in wrapper.structural_markers]
        for state, more in wrapper.response_transitions.items():
            edges.setdefault(state, []).extend(more)
        if not tools:
            return {state: [edge for edge in more if edge[1] != "tool"] for state, more in edges.items()}
        if not any(target == "tool" for more in wrapper.response_transitions.values() for _, target in more):
            for state in edges.keys() & {"normal", "reasoning"}:
                edges[state].append((wrapper.tool_call_start, "tool"))
        edges["tool"] = [(wrapper.tool_call_end, "normal")] if wrapper.tool_call_end else []
        return edges

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        context: int | None = None,
    ) -> Prompt:
        """`messages` through the chat template, with the head of the answer to come.

        Raises RequestError (the template's own message, or a template variable that does not exist) and, where the
        text is so long that it cannot fit `context` tokens, ContextLengthExceeded without cutting it into tokens.
        """
        if not self._wrapper.has_chat_template:
            raise RequestError("this model has no chat template", param="messages", code="no_chat_template")
        kwargs = dict(template_kwargs or {})
        for name in kwargs:
            self._check_template_variable(name, tools)
        text = self._apply(messages, list(tools) if tools else None, kwargs)
        if context is not None:
            self._check_length(text, context)
        thinking = self.has_thinking and text.rstrip().endswith(self._wrapper.think_start)
        state = self._wrapper.response_initial_state or ("reasoning" if thinking else "normal")
        return Prompt(self.encode(text), state)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of `text` as it stands: no special tokens are added. Lets other threads run meanwhile."""
        return tuple(self._wrapper.encode(text, add_special_tokens=False, verbose=False))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included."""
        return str(self._wrapper.decode(list(ids), clean_up_tokenization_spaces=False))

    def token_bytes(self, token: int) -> bytes:
        """What `token` adds to a text, as bytes: some tokens are parts of a character."""
        anchor = self.decode([self._anchor])
        text = self.decode([self._anchor, token])[len(anchor) :]
        if REPLACEMENT not in text:
            return text.encode()
        piece = str(self._wrapper.convert_ids_to_tokens(token))
        if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
            return bytes([int(piece[3:5], 16)])
        if all(character in _BYTE_LEVEL for character in piece):
            return bytes(_BYTE_LEVEL[character] for character in piece)
        return text.encode()

    @cached_property
    def _anchor(self) -> int:
        """An ordinary token: decoders treat the first token of a text differently."""
        return self.encode("a")[-1]

    @cached_property
    def vocabulary_size(self) -> int:
        """Token ids are below it."""
        return len(self._wrapper)

    @cached_property
    def xtc_kept_ids(self) -> tuple[int, ...]:
        """What XTC must not take away, as in mlx_lm's server: line ends and the end of the answer."""
        return tuple(sorted({*self.encode("\n"), *self.stop_ids}))

    def detokenizer(self) -> Detokenizer:
        """A streaming decoder for one answer."""
        return Detokenizer(self.decode)

    def parse_tool_calls(self, text: str, tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The calls in the text between the tool markers: `name`, `arguments` (an object), perhaps `id`.

        Raises ValueError where the text is no call.
        """
        try:
            parsed = self._wrapper.tool_parser(text, list(tools))
        except Exception as error:  # each model family has its own parser, with its own ways to fail
            raise ValueError(str(error)) from error
        calls = parsed if isinstance(parsed, list) else [parsed]
        if not calls or not all(_is_call(call) for call in calls):
            raise ValueError(f"not a tool call: {text!r}")
        return calls

    def _apply(self, messages: Sequence[Mapping[str, Any]], tools: Any, kwargs: dict[str, Any]) -> str:
        from jinja2 import TemplateError

        try:
            text = self._wrapper.apply_chat_template(
                [dict(message) for message in messages],
                tools=tools,
                tokenize=False,
                add_generation_prompt=True,
                **kwargs,
            )
        except TemplateError as error:
            reason = error.message or type(error).__name__
            raise RequestError(
                f"the model's chat template refuses these messages: {reason}", param="messages"
            ) from error
        except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
            raise RequestError(
                f"the model's chat template cannot render these messages: {error}", param="messages"
            ) from error
        return str(text)

    def _check_template_variable(self, name: str, tools: Any) -> None:
        """A variable that the template does not read would be ignored: refuse it."""
        if name in self._reserved_variables or not self._template_reads(name, tools):
            raise RequestError(
                f"the model's chat template has no variable {name!r}", param=f"chat_template_kwargs.{name}"
            )

    @cached_property
    def _reserved_variables(self) -> frozenset[str]:
        """Names of the renderer's own arguments, which a request must not replace."""
        renderer = inspect.signature(type(self._wrapper._tokenizer).apply_chat_template)
        return frozenset(renderer.parameters) | {"messages"}

    def _template_reads(self, name: str, tools: Any) -> bool:
        if self._wrapper._chat_template is not None:  # a template written in Python, by mlx_lm
            source = inspect.getsource(inspect.getmodule(self._wrapper._chat_template) or json)
        else:
            source = self._wrapper.get_chat_template(None, tools=tools)
        return re.search(rf"\b{re.escape(name)}\b", source) is not None

    def _check_length(self, text: str, context: int) -> None:
        least = len(text) // (self._longest_token_chars * NORMALIZER_SLACK)
        if least > context:
            raise ContextLengthExceeded(
                f"this model's context is {context} tokens, but the messages are at least {least} tokens long",
                param="messages",
            )

    @cached_property
    def _longest_token_chars(self) -> int:
        return max(map(len, self._wrapper.get_vocab()))


def _is_call(call: Any) -> bool:
    return (
        isinstance(call, dict)
        and isinstance(call.get("name"), str)
        and isinstance(call.get("arguments"), dict)
        and isinstance(call.get("id", ""), str)
    )


def _or(value: Any, default: float) -> Any:
    return default if value is None else value


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content
