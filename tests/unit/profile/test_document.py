"""YAML's own mistakes: where they stand and what is said about them."""

import pytest

from mlxctl.errors import Problem, ProfileError
from mlxctl.profile.document import MAX_DEPTH, MAX_FILE_BYTES, dotted, parse_document

pytestmark = pytest.mark.unit


def problems(text: str | bytes) -> tuple[Problem, ...]:
    try:
        return parse_document(text.encode() if isinstance(text, str) else text, "x.yaml").problems
    except ProfileError as error:
        return error.problems


def only(text: str | bytes) -> Problem:
    (problem,) = problems(text)
    return problem


def test_data_is_plain_and_knows_its_lines() -> None:
    document = parse_document(b"name: x\nnodes:\n  - host: a\n    ports: [1, 2]\n", "x.yaml")
    assert document.data == {"name": "x", "nodes": ({"host": "a", "ports": (1, 2)},)}
    assert document.line(("nodes", 0, "ports", 1)) == 4
    assert document.problems == ()


def test_the_line_of_something_missing_is_that_of_what_is_around_it() -> None:
    document = parse_document(b"name: x\nnodes:\n  - host: a\n", "x.yaml")
    assert document.line(("nodes", 0, "name")) == 3
    assert document.line(("model",)) is None


def test_a_repeated_key_names_both_lines() -> None:
    problem = only("a: 1\nb: 2\na: 3\n")
    assert (problem.line, problem.field) == (3, "a")
    assert "first on line 1" in problem.message


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: *a\n", 2, "aliases"),
        ("a: &x 1\n", 1, "anchors"),
        ("a: 1\nb: !!str 2\n", 2, "tags"),
        ("a: !!python/object:os.system x\n", 1, "tags"),
        ("a: ! x\n", 1, "tags"),
        ("a: !!map {}\n", 1, "tags"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("[a, b]\n", 1, "mapping"),
        ("just text\n", 1, "mapping"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 'x\n", 2, "not valid YAML"),
        ("a: [1, 2\n", 2, "not valid YAML"),
        ("1: x\n", 1, "not text"),
        ("yes: x\n", 1, "not text"),
        ("? [a]\n: x\n", 1, "a key must be text"),
        ("a: b\n? {}\n: x\n", 2, "a key must be text"),
        ('"a\\x07": x\n', 1, "cannot be printed"),
        ('a: "\\x1b[31m"\n', 1, "cannot be printed"),
        ('a: "\\ud800"\n', 1, "cannot be printed"),
        ("a: 1\nb: \x07\n", 2, "is not allowed"),
        ("a: 0100\n", 1, "odd number"),
        ("a: 1_000\n", 1, "odd number"),
        ("a: 1:30\n", 1, "odd number"),
        ("a: 0x1F\n", 1, "odd number"),
        ("a: " + "9" * 5000, 1, "odd number"),
    ],
)
def test_a_mistake_of_form_is_named_with_its_line(text: str, line: int, said: str) -> None:
    problem = only(text)
    assert said in problem.message
    assert problem.line == line


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "~\n", "---\n"])
def test_an_empty_file_is_called_empty(text: str) -> None:
    assert "empty" in only(text).message


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', "%YAML 1." + "9" * 5000 + "\n---\na: 1\n"])
def test_absurd_numbers_inside_yaml_are_not_a_crash(text: str) -> None:
    assert "absurd" in only(text).message


def test_tabs_are_explained() -> None:
    assert only("a:\n\tb: 2\n").suggestion == "indent with spaces, not tabs"


def test_nesting_is_limited_where_it_gets_too_deep() -> None:
    assert "deeper" in only("a: " + "[" * 30_000).message
    assert not problems("a: " + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2))


def test_a_billion_laughs_is_refused_without_laughing() -> None:
    text = "a: &a [x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    assert len(problems(text)) == 9 + 16


def test_several_mistakes_of_form_come_together() -> None:
    assert [problem.line for problem in problems("a: &x 1\nb: *x\nc: !t 2\nc: 3\n")] == [1, 2, 3, 4]


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    assert "larger than 64 KiB" in only(b"#" * (MAX_FILE_BYTES + 1)).message
    assert "empty" in only(b"#" * MAX_FILE_BYTES).message


def test_bytes_that_are_not_utf8_are_named_with_their_line() -> None:
    problem = only(b"a: 1\nb: \xe4\n")
    assert (problem.line, problem.suggestion) == (2, "save it as UTF-8")


def test_utf16_is_not_utf8() -> None:
    assert "UTF-8" in only("a: 1".encode("utf-16")).message


def test_a_byte_order_mark_is_ignored() -> None:
    assert parse_document(b"\xef\xbb\xbfa: 1\n", "x").data == {"a": 1}


def test_dates_are_text() -> None:
    assert parse_document(b"a: 2026-11-21\nb: 2026-99-99\n", "x").data == {"a": "2026-11-21", "b": "2026-99-99"}


def test_unquoted_scalars_are_kept_as_written() -> None:
    document = parse_document(b"a: yes\nb: 'yes'\nc: 1.50\n", "x")
    assert document.texts == {("a",): "yes", ("c",): "1.50"}


def test_a_location_is_shown_dotted() -> None:
    assert dotted(("nodes", 1, "memory")) == "nodes[1].memory"
    assert dotted(()) == ""


def test_a_location_with_hostile_keys_is_short_and_on_one_line() -> None:
    text = dotted(("a\nb", "x" * 1000))
    assert "\n" not in text
    assert len(text) < 80
