"""What a client may send, as OpenAI defines it. A field that is not honoured is refused. Used by api.chat.

Accepted without effect, because honouring them means nothing here: `user`, `metadata`, `safety_identifier` and
`prompt_cache_key` (labels), and every field whose value asks for what happens anyway (`n: 1`, `store: false` …).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

MAX_STOPS: Final = 4
MAX_STOP_CHARS: Final = 256
MAX_TOKENS: Final = 2**31 - 1
MAX_BIASES: Final = 1024  # they travel with every step
MAX_TOP_LOGPROBS: Final = 20
MAX_TIMEOUT_S: Final = 24 * 3600


class Strict(BaseModel):
    """No unknown fields, no conversions ("1" is no number), no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TextPart(Strict):
    """The only kind of content part: no images, no audio."""

    type: Literal["text"]
    text: str


def _off(value: bool) -> bool:
    if value:
        raise ValueError("only false is supported")
    return value


def _on(value: bool) -> bool:
    if not value:
        raise ValueError("only true is supported")
    return value


# Literal would take 0 for False.
Off = Annotated[bool, AfterValidator(_off), WithJsonSchema({"type": "boolean", "const": False})]
On = Annotated[bool, AfterValidator(_on), WithJsonSchema({"type": "boolean", "const": True})]


def _as_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


_CONTENT_SCHEMA: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": TextPart.model_json_schema()}]}
Content = Annotated[list[TextPart], BeforeValidator(_as_parts), WithJsonSchema(_CONTENT_SCHEMA)]


class SystemMessage(Strict):
    """Instructions; `developer` is OpenAI's newer name for `system`."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(Strict):
    """What the user says."""

    role: Literal["user"]
    content: Content


class FunctionCall(Strict):
    """`arguments` is a JSON object as text."""

    name: str
    arguments: str


class ToolCallPart(Strict):
    """A call that the model made."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AssistantMessage(Strict):
    """What the model said: with text, tool calls or both. The empty fields are those of OpenAI's own messages."""

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallPart] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[JsonValue], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("an assistant message needs content or tool_calls")
        return self


class ToolMessage(Strict):
    """What a tool answered to the call `tool_call_id`."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Strict):
    """A function that the model may call. `strict` (arguments forced into the schema) is not honoured yet."""

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: Off | None = None


class Tool(Strict):
    """A tool as OpenAI defines it; only functions."""

    type: Literal["function"]
    function: Function
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_was_given(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        tool = handler(value)
        tool._given = value
        return tool

    def for_template(self) -> dict[str, Any]:
        """The tool with its fields in the client's order, as the model's chat template prints it."""
        function = {key: value for key, value in self._given["function"].items() if key != "strict"}
        return {**self._given, "function": function}


class StreamOptions(Strict):
    """`include_usage`: a last chunk with the token counts."""

    include_usage: bool | None = None
    include_obfuscation: Off | None = None


class TextFormat(Strict):
    """Plain text, the only response format yet."""

    type: Literal["text"]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_STOP: Final = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARS}
_STOP_SCHEMA: Final = {"anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}]}
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stops = Annotated[
    list[StopString], Field(max_length=MAX_STOPS), BeforeValidator(_as_list), WithJsonSchema(_STOP_SCHEMA)
]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,9})$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenCount = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class ChatRequest(Strict):
    """The body of POST /v1/chat/completions. `null` means absent, as in OpenAI's API.

    Not OpenAI's: `top_k`, `min_p`, `repetition_penalty`, `repetition_context_size`, `xtc_probability`, `xtc_threshold`
    (as mlx_lm's server has them), `chat_template_kwargs`, `timeout` (seconds) and `priority`.
    """

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    repetition_context_size: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    xtc_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    xtc_threshold: Annotated[float, Field(ge=0, le=0.5)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MAX_BIASES)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    stop: Stops | None = None
    tools: Annotated[list[Tool], Field(min_length=1)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    chat_template_kwargs: dict[str, JsonValue] | None = None
    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = None
    priority: Literal["interactive", "batch"] | None = None

    n: Annotated[int, Field(ge=1, le=1)] | None = None
    response_format: TextFormat | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    parallel_tool_calls: On | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Off | None = None

    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens mean the same: give one")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        if self.tool_choice is not None and self.tools is None:
            raise ValueError("tool_choice needs tools")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.xtc_threshold is not None and not self.xtc_probability:
            raise ValueError("xtc_threshold needs an xtc_probability above 0")
        if self.repetition_context_size is not None and not self.has_penalty:
            raise ValueError("repetition_context_size needs a penalty")
        return self

    @property
    def has_penalty(self) -> bool:
        """Whether what was said before counts."""
        return bool(self.frequency_penalty or self.presence_penalty or self.repetition_penalty not in (None, 1))
