"""The cells of a bar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.cli.plan_view import bar_cells

pytestmark = pytest.mark.unit


@given(st.lists(st.integers(0, 10**12), min_size=4, max_size=4).filter(any), st.integers(4, 80))
def test_a_bar_has_its_length_and_shows_all_that_is_there_and_nothing_else(sizes: list[int], length: int) -> None:
    cells = bar_cells(sizes, length)
    assert sum(cells) == length
    assert [bool(cell) for cell in cells] == [bool(size) for size in sizes]


def test_cells_are_shared_out_by_size() -> None:
    assert bar_cells([10, 20, 10, 40], 8) == [1, 2, 1, 4]
