"""What is measured, as it is written down: workloads, requests, runs, hosts. JSON of journals and reports.

Times are seconds (`_s`) or milliseconds (`_ms`), sizes bytes, moments ISO 8601 in UTC. What could not be known is null.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["prefill", "decode", "chat", "concurrent", "arrivals", "file"]
Phase = Literal["prefill", "decode", "mixed"]


class Record(BaseModel):
    """What all records have in common: frozen, nothing unknown, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Workload(Record):
    """What one run asks for. `depth` is the number of tokens in the context when the first token is decoded.

    `streams` requests run at once, or arrive one by one at `rate_per_s` on average; a chat has `turns`, each adding
    `prompt_tokens` to the conversation. `prompts` are those of a file, whose lengths are what they are.
    """

    id: str
    kind: Kind
    prompt_tokens: int
    output_tokens: int
    streams: int = 1
    rate_per_s: float | None = None
    turns: int = 1
    prompts: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        return self.prompt_tokens

    @property
    def phase(self) -> Phase:
        """What a run of it spends its time with."""
        if self.kind == "prefill":
            return "prefill"
        return "decode" if self.kind == "decode" and self.output_tokens >= self.prompt_tokens / 8 else "mixed"

    @property
    def is_alone(self) -> bool:
        """Whether its requests never overlap, so that its greedy text must not depend on the number of devices."""
        return self.streams == 1 and self.kind != "arrivals"

    @property
    def total_tokens(self) -> int:
        """Tokens that a run moves, about: for estimates of the time left."""
        return self.streams * self.turns * (self.prompt_tokens + self.output_tokens)


class Answer(Record):
    """One request as its client saw it. `ttft_s`, `e2e_s` count from sending (or from the planned arrival).

    `gaps_ms` lie between events that brought text; an event can bring several tokens. `tokens_from` says who counted:
    the server's usage, or the model's tokenizer on the text.
    """

    prompt_tokens: int
    completion_tokens: int
    tokens_from: Literal["usage", "tokenizer"]
    cached_tokens: int | None
    ttft_s: float | None
    e2e_s: float
    gaps_ms: tuple[float, ...]
    finish_reason: str | None
    text_sha256: str
    text: str | None = None
    late_s: float = 0.0
    error: str | None = None

    @property
    def tpot_s(self) -> float | None:
        """Seconds per token after the first: (E2E - TTFT) / (N - 1)."""
        if self.ttft_s is None or self.completion_tokens < 2:
            return None
        return (self.e2e_s - self.ttft_s) / (self.completion_tokens - 1)


class StageSpan(Record):
    """Where a stage's time went during a run, by the stage's own clock.

    `compute_s` is building graphs and evaluating them, `graph_s` building them, before their frames come too, `wire_s`
    the arrival of frames from their first part to their last, `serialize_s` making frames bytes, `wait_s` having
    nothing to do (the bubble), `residual_s` what nobody accounts for; it is negative where parts overlap.
    """

    stage: int
    node: str
    steps: int
    wall_s: float
    compute_s: float
    graph_s: float
    serialize_s: float
    wire_s: float
    wait_s: float
    residual_s: float
    sent_bytes: int | None = None


class Run(Record):
    """One run of one workload. `visit` is the launch of the cluster that it ran on, `index` the prompt's number: equal
    indices have equal prompts whatever the number of devices. Warm-up runs are kept and never counted. `wire_s` is what
    its steps took beyond all stages' queueing, computing and serializing, summed over the steps: frames on their way.
    """

    kind: Literal["run"] = "run"
    devices: int
    visit: int
    workload: str
    index: int
    warm_up: bool
    started_at: str
    wall_s: float
    answers: tuple[Answer, ...]
    stages: tuple[StageSpan, ...] | None = None
    wire_s: float | None = None
    load_1m: float | None = None

    @property
    def failed(self) -> bool:
        return any(answer.error is not None for answer in self.answers)


class Margin(Record):
    """The gap between the two likeliest tokens, in log-probability, where an answer on `devices` parts from that on
    fewer.
    """

    kind: Literal["margin"] = "margin"
    devices: int
    workload: str
    index: int
    at_character: int
    margin: float


class Thermal(Record):
    """What the machine says of heat and power: macOS through pmset; null where there is no such source."""

    source: str
    cpu_speed_limit_percent: int | None = None
    warning: str | None = None
    power: str | None = None
    battery_percent: int | None = None


BUSY_SHARE = 0.5
"""Of the cores: a load above this before the first run means that other programs are in the figures."""


class Host(Record):
    """A machine. `bandwidth_bytes_per_s` is what a triad over large arrays reached, on the device that computes."""

    name: str
    nodes: tuple[str, ...]
    chip: str
    os: str
    memory_bytes: int
    cores: int | None = None
    bandwidth_bytes_per_s: float | None = None
    bandwidth_source: Literal["measured", "table", "assumed"] | None = None
    versions: dict[str, str] = {}
    load_1m: float | None = None
    thermal: Thermal | None = None

    @property
    def is_busy(self) -> bool:
        """Whether other programs took much of its cores."""
        return self.load_1m is not None and self.cores is not None and self.load_1m > BUSY_SHARE * self.cores


class Device(Record):
    """One stage of a launched cluster and its memory; `peak_bytes` is the most that it held at once. `core` is the
    processor core that its process was held to, null where it was not.
    """

    stage: int
    node: str
    host: str
    layers: tuple[int, int]
    weight_bytes: int
    kv_bytes: int
    cache_bytes: int | None
    peak_bytes: int | None
    rss_bytes: int | None
    budget_bytes: int | None
    core: int | None = None


class Energy(Record):
    """What CPU, GPU and Neural Engine of the machine that runs the bench used over `seconds_s`, whoever used them."""

    source: str
    seconds_s: float
    joules: float

    @property
    def watts(self) -> float:
        return self.joules / self.seconds_s


class Visit(Record):
    """One launch of the cluster on the first `devices` nodes; `fault` says why it does not run. `energy` is that of its
    session, warm-ups included.
    """

    kind: Literal["visit"] = "visit"
    number: int
    devices: int
    bring_up_s: float | None
    fits: bool
    fault: str | None = None
    stages: tuple[Device, ...] = ()
    thermal: Thermal | None = None
    energy: Energy | None = None


class Expectation(Record):
    """What is known of `devices` nodes before they run: what fits, what `plan` predicts, what bandwidth would allow.

    `predicted` and `roofline` are by workload, then by metric; `bounds` says by workload what the plan expects to wait
    for. The roofline is what reading weights and caches once a step would take at the measured memory bandwidth, and
    nothing else but the hops.
    """

    devices: int
    fits: bool
    reason: str | None = None
    predicted: dict[str, dict[str, float]] = {}
    roofline: dict[str, dict[str, float]] = {}
    bounds: dict[str, str] = {}
    largest_context: int | None = None
    largest_concurrency: int | None = None


class Model(Record):
    """The model that was measured; of a foreign server only its name is known."""

    name: str
    hash: str | None = None
    revision: str | None = None
    architecture: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    layers: int | None = None
    weight_bytes: int | None = None
    kv_bytes_per_token: int | None = None
    random_weights: bool = False


class Tool(Record):
    """What measured. `commit` and `dirty` where mlxctl runs from a git checkout."""

    version: str
    python: str
    commit: str | None = None
    dirty: bool | None = None


class Protocol(Record):
    """How it was measured; see also the definitions. `plan` lists the device counts in the order of their launches."""

    suite: str
    seed: int
    plan: tuple[int, ...]
    least_runs: int
    most_runs: int
    target_half_width: float
    warm_up: str
    stop: str
    budget_s: float | None
    temperature: float = 0.0


ONE_MACHINE = "one machine"
"""The type of a link between processes of one machine."""


class Link(Record):
    """A measured connection: what `source` sends through, 64 bytes to `target` and back, bandwidth one way."""

    source: str
    target: str
    type: str | None = None
    rtt_p50_s: float | None = None
    rtt_p99_s: float | None = None
    bytes_per_s: float | None = None


class Head(Record):
    """The first line of a journal: all that is known before anything is run."""

    kind: Literal["head"] = "head"
    journal: Literal["mlxctl.bench-journal/1"] = "mlxctl.bench-journal/1"
    id: str
    started_at: str
    target: Literal["cluster", "attached", "http"]
    title: str
    tool: Tool
    argv: tuple[str, ...]
    profile: str | None
    hosts: tuple[Host, ...]
    links: tuple[Link, ...] = ()
    links_fault: str | None = None
    energy_source: str | None = None
    energy_fault: str | None = None
    model: Model
    protocol: Protocol
    workloads: tuple[Workload, ...]
    expectations: tuple[Expectation, ...] = ()


class End(Record):
    """The last line of a journal. A journal without one is of a bench that crashed."""

    kind: Literal["end"] = "end"
    ended_at: str
    how: Literal["complete", "interrupted", "failed"]
    message: str | None = None
    hosts: tuple[Host, ...] = ()


Line = Annotated[Head | Visit | Run | Margin | End, Field(discriminator="kind")]
JsonObject = dict[str, Any]
