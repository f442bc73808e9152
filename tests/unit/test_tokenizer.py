"""The canary's tokenizer, and small ones of other kinds made on the spot."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models

from mlxctl.canary import MODEL_DIR
from mlxctl.errors import CheckpointError, ContextLengthExceeded, RequestError
from mlxctl.tokenizer import Detokenizer, Tokenizer
from tests.api_server import canary_tokenizer
from tests.canary_expectations import EXPECTATIONS, Expectation

pytestmark = pytest.mark.unit

HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return canary_tokenizer()


def changed_model(folder: Path, **files: Any) -> Path:
    """A copy of the canary's tokenizer files with some replaced: stem -> content."""
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL_DIR / name, folder / name)
    for stem, content in files.items():
        name = "chat_template.jinja" if stem == "chat_template" else f"{stem}.json"
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def streamed(detokenizer: Detokenizer, ids: list[int]) -> list[str]:
    return [detokenizer.push(token) for token in ids] + [detokenizer.finish()]


@given(st.text(max_size=60))
def test_text_survives_tokens_and_streaming(text: str) -> None:
    tokenizer = canary_tokenizer()
    ids = list(tokenizer.encode(text))
    assert "".join(streamed(tokenizer.detokenizer(), ids)) == text


@given(st.lists(st.integers(0, 2047), max_size=40))
def test_any_tokens_streamed_give_the_text_of_all_at_once(ids: list[int]) -> None:
    tokenizer = canary_tokenizer()
    assert "".join(streamed(tokenizer.detokenizer(), ids)) == tokenizer.decode(ids)


@given(st.text(alphabet="é😀日a", min_size=1, max_size=20))
def test_no_piece_ends_within_a_character(text: str) -> None:
    tokenizer = canary_tokenizer()
    pieces = streamed(tokenizer.detokenizer(), list(tokenizer.encode(text)))
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_that_never_becomes_whole_is_a_replacement_at_the_end(tokenizer: Tokenizer) -> None:
    cut = list(tokenizer.encode("日"))[:-1]
    assert cut and streamed(tokenizer.detokenizer(), cut) == [""] * len(cut) + [tokenizer.decode(cut)]


@given(st.lists(st.sampled_from(["▁a", "b", "▁", "<0xE6>", "<0x97>", "<0xA5>"]), max_size=12))
def test_a_sentencepiece_decoder_keeps_the_spaces_between_pieces(tokens: list[str]) -> None:
    vocabulary = {token: index for index, token in enumerate(["▁a", "b", "▁", "<0xE6>", "<0x97>", "<0xA5>"])}
    raw = RawTokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # Whole characters only: a broken one takes its valid neighbours with it in this decoder.
    whole = [part for token in tokens for part in (["<0xE6>", "<0x97>", "<0xA5>"] if "0x" in token else [token])]
    ids = [vocabulary[token] for token in whole]
    assert "".join(streamed(Detokenizer(lambda ids: raw.decode(list(ids))), ids)) == raw.decode(ids)


@pytest.mark.parametrize("case", EXPECTATIONS.values(), ids=str)
def test_a_conversation_becomes_the_prompt_that_mlx_lm_makes(tokenizer: Tokenizer, case: Expectation) -> None:
    from mlxctl.api.messages import template_messages
    from mlxctl.api.schema import ChatRequest

    request = ChatRequest.model_validate_json(json.dumps({"model": "canary", "messages": case.messages}))
    prompt = tokenizer.render(
        template_messages(request.messages), tools=case.tools, template_kwargs={"enable_thinking": case.thinking}
    )
    assert len(prompt.ids) == case.prompt_tokens


def test_every_id_that_ends_an_answer_is_known(tokenizer: Tokenizer) -> None:
    assert tokenizer.stop_ids == {0, 2}


def test_an_end_in_generation_config_alone_is_known(tmp_path: Path) -> None:
    changed = changed_model(tmp_path, generation_config={"eos_token_id": [2, 7]})
    assert Tokenizer.load(changed).stop_ids == {2, 7}


def test_the_model_says_how_it_wants_to_be_sampled(tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert tokenizer.sampling.temperature == 0
    wanted = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
    sampling = Tokenizer.load(changed_model(tmp_path, generation_config=wanted)).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.6, 0.95, 20, 0)


def test_a_model_that_says_nothing_is_sampled_at_temperature_one(tmp_path: Path) -> None:
    assert Tokenizer.load(changed_model(tmp_path, generation_config={})).sampling.temperature == 1


def test_a_template_that_opens_the_thinking_says_so(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}<|im_start|>assistant\n<think>\n"
    prompt = Tokenizer.load(changed_model(tmp_path, chat_template=template)).render(HELLO)
    assert prompt.state == "reasoning"


def test_a_user_who_writes_a_thinking_marker_does_not_open_the_thinking(tokenizer: Tokenizer) -> None:
    assert tokenizer.render([{"role": "user", "content": "<think>"}]).state == "normal"


def test_the_templates_own_refusal_reaches_the_client(tmp_path: Path) -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(RequestError, match="roles must alternate") as caught:
        Tokenizer.load(changed_model(tmp_path, chat_template=template)).render(HELLO)
    assert caught.value.http_status == 400


def test_a_template_that_trips_over_a_message_is_a_bad_request(tmp_path: Path) -> None:
    template = "{{ messages[0].content + 1 }}"
    with pytest.raises(RequestError, match="cannot render"):
        Tokenizer.load(changed_model(tmp_path, chat_template=template)).render(HELLO)


def test_a_model_without_a_chat_template_says_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no chat template"):
        Tokenizer.load(changed_model(tmp_path)).render(HELLO)


@pytest.mark.parametrize("name", ["no_such_variable", "tools", "messages", "chat_template", "tokenize"])
def test_a_variable_that_the_template_would_ignore_is_refused(tokenizer: Tokenizer, name: str) -> None:
    with pytest.raises(RequestError, match=name) as caught:
        tokenizer.render(HELLO, template_kwargs={name: "x"})
    assert caught.value.param == f"chat_template_kwargs.{name}"


def test_thinking_is_on_unless_switched_off(tokenizer: Tokenizer) -> None:
    on, off = (tokenizer.render(HELLO, template_kwargs={"enable_thinking": value}) for value in (True, False))
    assert tokenizer.render(HELLO).ids == on.ids != off.ids


def test_a_text_that_cannot_fit_is_refused_without_being_cut_into_tokens(tokenizer: Tokenizer) -> None:
    with pytest.raises(ContextLengthExceeded, match="at least"):
        tokenizer.render([{"role": "user", "content": "word " * 1_000_000}], context=4096)


def test_a_call_is_read_with_mlx_lms_parser(tokenizer: Tokenizer) -> None:
    calls = tokenizer.parse_tool_calls('\n{"name": "f", "arguments": {"x": 1}}\n', [])
    assert calls == [{"name": "f", "arguments": {"x": 1}}]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", '"f"', '{"name": "f"}', '{"name": 1, "arguments": {}}', "[" * 9999]
)
def test_what_is_no_call_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(ValueError):
        tokenizer.parse_tool_calls(text, [])


@pytest.mark.parametrize("broken", [{"tokenizer": "{"}, {"tokenizer": {}}, {"generation_config": [1]}, {"config": "x"}])
def test_a_broken_tokenizer_is_named(tmp_path: Path, broken: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Tokenizer.load(changed_model(tmp_path, **broken))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a model directory"):
        Tokenizer.load(tmp_path / "nothing")


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    config = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    changed_model(tmp_path, tokenizer_config=config)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with contextlib.suppress(CheckpointError):
        Tokenizer.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_template_written_in_python_takes_its_own_variables_only(tmp_path: Path) -> None:
    config = json.loads((MODEL_DIR / "tokenizer_config.json").read_text())
    changed_model(tmp_path, tokenizer_config={**config, "chat_template_type": "deepseek_v32"})
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.render(HELLO, template_kwargs={"enable_thinking": False}).ids
    with pytest.raises(RequestError, match="no_such_variable"):
        tokenizer.render(HELLO, template_kwargs={"no_such_variable": 1})


def test_a_model_with_headers_starts_in_its_header(tmp_path: Path) -> None:
    changed_model(tmp_path, config={"model_type": "muse_spark"}, chat_template="{{ messages[0].content }}")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.render(HELLO).state == "header"
    plain, with_tools = (tokenizer.transitions(tools=tools) for tools in (False, True))
    assert ("to=user<|message|>", "normal") in plain["header"]
    assert not any(target == "tool" for edges in plain.values() for _, target in edges)
    assert any(target == "tool" for _, target in with_tools["header"])


@given(st.text(max_size=20))
def test_the_bytes_of_all_tokens_are_the_bytes_of_the_text(text: str) -> None:
    tokenizer = canary_tokenizer()
    assert (
        b"".join(map(tokenizer.token_bytes, tokenizer.encode(text)))
        == tokenizer.decode(tokenizer.encode(text)).encode()
    )


def test_the_bytes_of_every_token_of_the_vocabulary_are_known(tokenizer: Tokenizer) -> None:
    assert all(tokenizer.token_bytes(token) for token in range(tokenizer.vocabulary_size))


def test_xtc_leaves_line_ends_and_the_end_of_the_answer(tokenizer: Tokenizer) -> None:
    assert set(tokenizer.xtc_kept_ids) == {*tokenizer.encode("\n"), *tokenizer.stop_ids}
