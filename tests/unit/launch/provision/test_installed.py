"""The same versions everywhere, or a refusal that names the node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxctl.errors import LaunchError
from mlxctl.launch.provision import Installed, installed_here, require_equal_versions

pytestmark = pytest.mark.unit


def test_equal_versions_pass() -> None:
    require_equal_versions({"a": installed_here(), "b": installed_here()})


def test_another_version_is_refused_by_name() -> None:
    other = replace(installed_here(), mlx_lm_version="0.1")
    with pytest.raises(LaunchError, match=r"node b: mlx-lm is 0\.1 there and") as caught:
        require_equal_versions({"a": installed_here(), "b": other})
    assert "pip install 'mlx-lm==0.1'" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "{}", '{"python": "x"}', "[]"])
def test_a_marker_that_is_not_ours_is_named(text: str) -> None:
    with pytest.raises(LaunchError, match="cannot read what is installed"):
        Installed.from_json(text, "/home/me/.local/state/mlxctl")
