"""The API key is looked at before `mlxctl up` changes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import MakeCluster, Mlxctl

pytestmark = pytest.mark.unit

PROFILE = """
name: local
api: {{api_key_file: {key_file}}}
nodes: [{{name: worker-1, host: localhost}}]
"""


@pytest.mark.parametrize(("content", "mode"), [("short", 0o600), ("long-enough-for-a-key", 0o644)])
def test_a_weak_key_is_refused_while_the_running_cluster_still_runs(
    mlxctl: Mlxctl, make_cluster: MakeCluster, tmp_path: Path, content: str, mode: int
) -> None:
    make_cluster()
    (tmp_path / "key").write_text(content, encoding="utf-8")
    (tmp_path / "key").chmod(mode)
    (tmp_path / "profile.yaml").write_text(PROFILE.format(key_file=tmp_path / "key"), encoding="utf-8")
    outcome = mlxctl("up", str(tmp_path / "profile.yaml"), "--recreate")
    assert outcome.code == 2 and str(tmp_path / "key") in outcome.err and "taken down" not in outcome.err
    assert mlxctl("status").code == 0
