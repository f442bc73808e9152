"""Sizes and hosts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from mlxctl.profile.values import GIB, MIB, check_host, format_size, is_loopback, parse_size, shown

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("16GB", 16 * GIB),
        ("4GiB", 4 * GIB),
        ("512MB", 512 * MIB),
        ("1.5GB", 3 * GIB // 2),
        ("16 gb", 16 * GIB),
        ("1TB", 1024 * GIB),
        ("0MB", 0),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [("16G", "write 16GB"), ("16", "write 16GB"), ("1.5 m", "write 1.5MB"), ("lots", "such as 16GB, 512MB or 1.5GB")],
)
def test_a_size_that_is_none_gets_a_suggestion(text: str, suggestion: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        parse_size(text)
    assert caught.value.context is not None
    assert caught.value.context["suggestion"] == suggestion


@pytest.mark.parametrize("text", ["", "-1GB", "1e9GB", "16 XB", "GB", "1.GB", "16GB extra", "٣GB", "9999999GB"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(PydanticCustomError, match="is not a size"):
        parse_size(text)


@given(st.integers(1, 10**6 - 1), st.sampled_from(["MB", "GB", "TB"]))
def test_a_formatted_size_reads_back(amount: int, unit: str) -> None:
    size_bytes = parse_size(f"{amount}{unit}")
    assert parse_size(format_size(size_bytes)) == size_bytes


def test_an_uneven_size_is_shown_in_bytes() -> None:
    assert format_size(GIB + 1) == f"{GIB + 1} bytes"


@pytest.mark.parametrize(
    "host",
    ["localhost", "mini1.local", "my_mac", "10.0.0.2", "::1", "fe80::1%en0", "a" * 63 + ".local", "mini.", "3com.com"],
)
def test_a_host_name_or_address_is_accepted(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "-oProxyCommand=x",
        "a b",
        "10.0.0.300",
        "10.0",
        "1",
        "a..b",
        "ü.local",
        "fe80::1%",
        "fe80::1%a b",
        "x" * 300,
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(PydanticCustomError, match="is not a host name or address"):
        check_host(host)


@pytest.mark.parametrize(
    ("host", "suggestion"),
    [
        ("me@mini1.local", "write user: me and host: mini1.local"),
        ("[::1]", 'write it without brackets: "::1"'),
        ("mini1:22", "write host: mini1, and the port in its own key"),
        ("http://mini1", "only the name, nothing before or after it"),
    ],
)
def test_a_host_with_something_around_it_gets_a_suggestion(host: str, suggestion: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        check_host(host)
    assert caught.value.context is not None
    assert caught.value.context["suggestion"] == suggestion


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "mini1.local", "127.0.0.1.example.com"])
def test_everything_else_can_be_reached_from_elsewhere(host: str) -> None:
    assert not is_loopback(host)


@given(st.one_of(st.text(), st.integers(), st.lists(st.text()), st.dictionaries(st.text(), st.text())))
def test_a_shown_value_is_short_and_on_one_line(value: object) -> None:
    text = shown(value)
    assert text.isprintable()
    assert len(text) <= 42 * 10 + 2  # repr writes an unprintable character in at most 10


def test_a_suggestion_in_braces_is_not_mistaken_for_a_template() -> None:
    with pytest.raises(PydanticCustomError) as caught:
        parse_size("{suggestion}")
    assert caught.value.context is not None
    assert caught.value.context["message"] == "'{suggestion}' is not a size"
