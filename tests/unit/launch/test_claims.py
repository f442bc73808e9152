"""Claims: whose a node is, and when nobody's."""

from __future__ import annotations

import pytest

from mlxctl.launch.claims import Holder, is_stale, refusal
from mlxctl.launch.node_shell import SeenClaim

pytestmark = pytest.mark.unit

HOLDER = Holder("me@laptop", "x", 5)


def seen(text: str = "", *, age_s: float = 1.0, alive: bool = True) -> SeenClaim:
    return SeenClaim(text or HOLDER.to_json(), age_s, alive, ())


def test_who_holds_a_node_is_read_as_it_was_written() -> None:
    assert Holder.of(seen()) == HOLDER


@pytest.mark.parametrize(("age_s", "alive", "stale"), [(1, True, False), (1, False, True), (16, True, True)])
def test_a_claim_without_a_keeper_or_a_renewal_is_stale(age_s: float, alive: bool, stale: bool) -> None:
    assert is_stale(seen(age_s=age_s, alive=alive)) == stale


def test_a_refusal_names_node_cluster_owner_and_what_to_do() -> None:
    error = refusal(seen(), "mini1")
    assert error.line == "node mini1: it serves cluster x of me@laptop"
    assert error.hint == "wait, or there: mlxctl down x"


@pytest.mark.parametrize("text", ["{}", "nonsense", '{"owner": 1, "cluster": []}'])
def test_a_claim_that_nobody_of_ours_wrote_is_refused_without_a_name(text: str) -> None:
    assert Holder.of(seen(text)) is None
    assert "another program" in refusal(seen(text), "mini1").message
