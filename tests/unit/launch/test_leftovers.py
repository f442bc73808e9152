"""What killed launchers leave is removed, what lives is left alone."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from mlxctl import paths
from mlxctl.launch.leftovers import clear_leftovers

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("own_home")]


def private(name: str) -> Path:
    """A folder with a log, a minute old and more."""
    folder = paths.make_cluster_dir(f"private-{name}")
    paths.log_file(folder.name, "a").write_text("gone")
    os.utime(folder, (0, 0))
    return folder


def test_a_folder_that_nobody_holds_is_removed() -> None:
    folder = private("dead")
    assert clear_leftovers() == ["private-dead"]
    assert not folder.exists()


def test_a_young_folder_may_be_about_to_be_held() -> None:
    folder = private("young")
    os.utime(folder)
    assert clear_leftovers() == [] and folder.exists()


def test_a_cluster_with_a_state_and_one_with_a_name_are_left_to_down() -> None:
    paths.state_file(private("stateful").name).write_text("{}")
    os.utime(paths.make_cluster_dir("named"), (0, 0))
    assert clear_leftovers(0.0) == []


def hold(name: str, ready: object, over: object) -> None:
    from mlxctl.launch.state import ClusterLock

    with ClusterLock(name):
        ready.set()  # type: ignore[attr-defined]
        over.wait()  # type: ignore[attr-defined]


def test_a_folder_that_a_process_holds_is_left() -> None:
    context = multiprocessing.get_context("spawn")
    ready, over = context.Event(), context.Event()
    folder = private("held")
    holder = context.Process(target=hold, args=(folder.name, ready, over))
    holder.start()
    try:
        assert ready.wait(30)
        assert clear_leftovers(0.0) == [] and folder.exists()
    finally:
        over.set()
        holder.join()
    assert clear_leftovers(0.0) == [folder.name]
