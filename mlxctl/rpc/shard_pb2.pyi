from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RawPart(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LoadRequest(_message.Message):
    __slots__ = ("deployment", "epoch", "model_path", "start", "stop", "stage", "memory_limit_bytes", "weights", "folder", "kv_bits", "kv_group_size", "stages")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MODEL_PATH_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    KV_BITS_FIELD_NUMBER: _ClassVar[int]
    KV_GROUP_SIZE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    epoch: int
    model_path: str
    start: int
    stop: int
    stage: int
    memory_limit_bytes: int
    weights: str
    folder: str
    kv_bits: int
    kv_group_size: int
    stages: int
    def __init__(self, deployment: _Optional[str] = ..., epoch: _Optional[int] = ..., model_path: _Optional[str] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ..., stage: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., weights: _Optional[str] = ..., folder: _Optional[str] = ..., kv_bits: _Optional[int] = ..., kv_group_size: _Optional[int] = ..., stages: _Optional[int] = ...) -> None: ...

class LoadProgress(_message.Message):
    __slots__ = ("layers_done", "layers_total", "bytes_done", "bytes_total", "ready", "batchable", "trim_limit")
    LAYERS_DONE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    BATCHABLE_FIELD_NUMBER: _ClassVar[int]
    TRIM_LIMIT_FIELD_NUMBER: _ClassVar[int]
    layers_done: int
    layers_total: int
    bytes_done: int
    bytes_total: int
    ready: bool
    batchable: bool
    trim_limit: int
    def __init__(self, layers_done: _Optional[int] = ..., layers_total: _Optional[int] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., ready: _Optional[bool] = ..., batchable: _Optional[bool] = ..., trim_limit: _Optional[int] = ...) -> None: ...

class ConnectRequest(_message.Message):
    __slots__ = ("deployment", "epoch", "address", "server_name", "feed")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SERVER_NAME_FIELD_NUMBER: _ClassVar[int]
    FEED_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    epoch: int
    address: str
    server_name: str
    feed: bool
    def __init__(self, deployment: _Optional[str] = ..., epoch: _Optional[int] = ..., address: _Optional[str] = ..., server_name: _Optional[str] = ..., feed: _Optional[bool] = ...) -> None: ...

class ConnectReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResultsRequest(_message.Message):
    __slots__ = ("deployment", "epoch")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    epoch: int
    def __init__(self, deployment: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("deployment", "epoch", "start", "stop", "ready", "active_bytes", "peak_bytes", "rss_bytes", "cache_bytes", "lanes", "steps", "up_s", "failure", "profile")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    CACHE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LANES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    UP_S_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    epoch: int
    start: int
    stop: int
    ready: bool
    active_bytes: int
    peak_bytes: int
    rss_bytes: int
    cache_bytes: int
    lanes: int
    steps: int
    up_s: float
    failure: str
    profile: Profile
    def __init__(self, deployment: _Optional[str] = ..., epoch: _Optional[int] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ..., ready: _Optional[bool] = ..., active_bytes: _Optional[int] = ..., peak_bytes: _Optional[int] = ..., rss_bytes: _Optional[int] = ..., cache_bytes: _Optional[int] = ..., lanes: _Optional[int] = ..., steps: _Optional[int] = ..., up_s: _Optional[float] = ..., failure: _Optional[str] = ..., profile: _Optional[_Union[Profile, _Mapping]] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("receive_s", "graph_s", "busy_s", "serialize_s", "sent_bytes", "foreseen_steps")
    RECEIVE_S_FIELD_NUMBER: _ClassVar[int]
    GRAPH_S_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    SERIALIZE_S_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    FORESEEN_STEPS_FIELD_NUMBER: _ClassVar[int]
    receive_s: float
    graph_s: float
    busy_s: float
    serialize_s: float
    sent_bytes: int
    foreseen_steps: int
    def __init__(self, receive_s: _Optional[float] = ..., graph_s: _Optional[float] = ..., busy_s: _Optional[float] = ..., serialize_s: _Optional[float] = ..., sent_bytes: _Optional[int] = ..., foreseen_steps: _Optional[int] = ...) -> None: ...

class StoreRequest(_message.Message):
    __slots__ = ("model_path", "files", "weights", "repo", "commit")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MODEL_PATH_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    REPO_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    model_path: str
    files: _containers.ScalarMap[str, int]
    weights: str
    repo: str
    commit: str
    def __init__(self, model_path: _Optional[str] = ..., files: _Optional[_Mapping[str, int]] = ..., weights: _Optional[str] = ..., repo: _Optional[str] = ..., commit: _Optional[str] = ...) -> None: ...

class StoreReply(_message.Message):
    __slots__ = ("folder", "held_bytes", "free_bytes", "disk")
    class HeldBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    folder: str
    held_bytes: _containers.ScalarMap[str, int]
    free_bytes: int
    disk: str
    def __init__(self, folder: _Optional[str] = ..., held_bytes: _Optional[_Mapping[str, int]] = ..., free_bytes: _Optional[int] = ..., disk: _Optional[str] = ...) -> None: ...

class PutHeader(_message.Message):
    __slots__ = ("weights", "piece", "size_bytes", "sha256")
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    weights: str
    piece: str
    size_bytes: int
    sha256: str
    def __init__(self, weights: _Optional[str] = ..., piece: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("weights", "piece", "size_bytes", "endpoint", "token")
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    weights: str
    piece: str
    size_bytes: int
    endpoint: str
    token: str
    def __init__(self, weights: _Optional[str] = ..., piece: _Optional[str] = ..., size_bytes: _Optional[int] = ..., endpoint: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class PutReply(_message.Message):
    __slots__ = ("offset", "whole")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    offset: int
    whole: bool
    def __init__(self, offset: _Optional[int] = ..., whole: _Optional[bool] = ...) -> None: ...

class LeaseRequest(_message.Message):
    __slots__ = ("duration_s",)
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    duration_s: float
    def __init__(self, duration_s: _Optional[float] = ...) -> None: ...

class LeaseReply(_message.Message):
    __slots__ = ("failure", "broken_edges")
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    BROKEN_EDGES_FIELD_NUMBER: _ClassVar[int]
    failure: str
    broken_edges: _containers.RepeatedCompositeFieldContainer[BrokenEdge]
    def __init__(self, failure: _Optional[str] = ..., broken_edges: _Optional[_Iterable[_Union[BrokenEdge, _Mapping]]] = ...) -> None: ...

class BrokenEdge(_message.Message):
    __slots__ = ("sender", "receiver", "reason")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    sender: int
    receiver: int
    reason: str
    def __init__(self, sender: _Optional[int] = ..., receiver: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CacheOperation(_message.Message):
    __slots__ = ("kind", "handle", "others", "rows", "tokens")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[CacheOperation.Kind]
        NEW: _ClassVar[CacheOperation.Kind]
        FREE: _ClassVar[CacheOperation.Kind]
        COPY: _ClassVar[CacheOperation.Kind]
        JOIN: _ClassVar[CacheOperation.Kind]
        KEEP: _ClassVar[CacheOperation.Kind]
        SPLIT: _ClassVar[CacheOperation.Kind]
    UNSPECIFIED: CacheOperation.Kind
    NEW: CacheOperation.Kind
    FREE: CacheOperation.Kind
    COPY: CacheOperation.Kind
    JOIN: CacheOperation.Kind
    KEEP: CacheOperation.Kind
    SPLIT: CacheOperation.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    kind: CacheOperation.Kind
    handle: int
    others: _containers.RepeatedScalarFieldContainer[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    tokens: int
    def __init__(self, kind: _Optional[_Union[CacheOperation.Kind, str]] = ..., handle: _Optional[int] = ..., others: _Optional[_Iterable[int]] = ..., rows: _Optional[_Iterable[int]] = ..., tokens: _Optional[int] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "seed", "xtc_probability", "xtc_threshold", "xtc_kept_ids", "repetition_penalty", "presence_penalty", "frequency_penalty", "bias_ids", "bias", "top_logprobs")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    XTC_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    XTC_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    XTC_KEPT_IDS_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    BIAS_IDS_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    xtc_probability: float
    xtc_threshold: float
    xtc_kept_ids: _containers.RepeatedScalarFieldContainer[int]
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    bias_ids: _containers.RepeatedScalarFieldContainer[int]
    bias: _containers.RepeatedScalarFieldContainer[float]
    top_logprobs: int
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., seed: _Optional[int] = ..., xtc_probability: _Optional[float] = ..., xtc_threshold: _Optional[float] = ..., xtc_kept_ids: _Optional[_Iterable[int]] = ..., repetition_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., bias_ids: _Optional[_Iterable[int]] = ..., bias: _Optional[_Iterable[float]] = ..., top_logprobs: _Optional[int] = ...) -> None: ...

class Settings(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[Sampling]
    def __init__(self, rows: _Optional[_Iterable[_Union[Sampling, _Mapping]]] = ...) -> None: ...

class Recent(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class StageTime(_message.Message):
    __slots__ = ("compute_us", "receive_us", "wait_us", "queue_us", "graph_us", "eval_us", "serialize_us")
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_US_FIELD_NUMBER: _ClassVar[int]
    WAIT_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    GRAPH_US_FIELD_NUMBER: _ClassVar[int]
    EVAL_US_FIELD_NUMBER: _ClassVar[int]
    SERIALIZE_US_FIELD_NUMBER: _ClassVar[int]
    compute_us: int
    receive_us: int
    wait_us: int
    queue_us: int
    graph_us: int
    eval_us: int
    serialize_us: int
    def __init__(self, compute_us: _Optional[int] = ..., receive_us: _Optional[int] = ..., wait_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., graph_us: _Optional[int] = ..., eval_us: _Optional[int] = ..., serialize_us: _Optional[int] = ...) -> None: ...

class FrameHeader(_message.Message):
    __slots__ = ("deployment", "epoch", "lane", "step", "operations", "rows", "columns", "token_ids", "positions", "boundary", "tensor_bytes", "failure", "failed_stage", "times", "settings", "recent", "drawn")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    TENSOR_BYTES_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    FAILED_STAGE_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    DRAWN_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    epoch: int
    lane: int
    step: int
    operations: _containers.RepeatedCompositeFieldContainer[CacheOperation]
    rows: int
    columns: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    positions: _containers.RepeatedScalarFieldContainer[int]
    boundary: str
    tensor_bytes: _containers.RepeatedScalarFieldContainer[int]
    failure: str
    failed_stage: int
    times: _containers.RepeatedCompositeFieldContainer[StageTime]
    settings: bytes
    recent: _containers.RepeatedCompositeFieldContainer[Recent]
    drawn: bool
    def __init__(self, deployment: _Optional[str] = ..., epoch: _Optional[int] = ..., lane: _Optional[int] = ..., step: _Optional[int] = ..., operations: _Optional[_Iterable[_Union[CacheOperation, _Mapping]]] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., positions: _Optional[_Iterable[int]] = ..., boundary: _Optional[str] = ..., tensor_bytes: _Optional[_Iterable[int]] = ..., failure: _Optional[str] = ..., failed_stage: _Optional[int] = ..., times: _Optional[_Iterable[_Union[StageTime, _Mapping]]] = ..., settings: _Optional[bytes] = ..., recent: _Optional[_Iterable[_Union[Recent, _Mapping]]] = ..., drawn: _Optional[bool] = ...) -> None: ...

class TokenLogprob(_message.Message):
    __slots__ = ("wanted", "logprob", "top_ids", "top_logprobs")
    WANTED_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    wanted: bool
    logprob: float
    top_ids: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, wanted: _Optional[bool] = ..., logprob: _Optional[float] = ..., top_ids: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class ResultHeader(_message.Message):
    __slots__ = ("deployment", "epoch", "lane", "step", "token_ids", "failure", "failed_stage", "times", "logprobs")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    FAILED_STAGE_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    epoch: int
    lane: int
    step: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    failure: str
    failed_stage: int
    times: _containers.RepeatedCompositeFieldContainer[StageTime]
    logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, deployment: _Optional[str] = ..., epoch: _Optional[int] = ..., lane: _Optional[int] = ..., step: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., failure: _Optional[str] = ..., failed_stage: _Optional[int] = ..., times: _Optional[_Iterable[_Union[StageTime, _Mapping]]] = ..., logprobs: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...
