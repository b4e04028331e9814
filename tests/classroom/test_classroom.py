"""A class at once, the judge that says whether they kept apart, and the page for teachers.

The class in JupyterHub is `make classroom`.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from labkit.wire import live
from tests.classroom.judging import AFTER, BEFORE, Connection, Report, wrong_with
from tests.conftest import ROOT, THOROUGH
from tests.notebooks import NOTEBOOKS, lessons
from tests.notebooks.kernels import client
from tests.notebooks.outputs import seen

PAGE = NOTEBOOKS / "teachers" / "classroom.md"
LESSON = next(path for path in lessons() if path.name.startswith("04"))


async def attend(folder: Path, together: asyncio.Barrier) -> tuple[Report, list[Any]]:
    """One kernel of a class; waits for the others before the lesson and after it."""
    lesson = nbformat.read(LESSON, as_version=4)
    before, after = nbformat.v4.new_code_cell(BEFORE), nbformat.v4.new_code_cell(AFTER)
    lesson.cells = [before, *lesson.cells, after]
    kernel = client(lesson, folder)
    async with kernel.async_setup_kernel():
        await kernel.async_execute_cell(before, 0)
        await together.wait()
        for number, cell in enumerate(lesson.cells[1:-1], 1):
            await kernel.async_execute_cell(cell, number)
        await together.wait()
        await kernel.async_execute_cell(after, len(lesson.cells) - 1)
    return Report.read(after.outputs[0].text), seen(lesson.cells[1:-1])


async def class_of(names: list[str], folder: Path) -> Mapping[str, tuple[Report, list[Any]]]:
    together = asyncio.Barrier(len(names))
    found = await asyncio.gather(*(attend(folder, together) for _name in names))
    return dict(zip(names, found, strict=True))


def test_learners_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = "tap" if live.available() else "live"  # where it can be had, live: it could hear the neighbours
    monkeypatch.setenv("LABKIT_CAPTURE", engine)
    committed = seen(nbformat.read(LESSON, as_version=4).cells)
    class_ = asyncio.run(class_of([f"learner{number}" for number in range(8 if THOROUGH else 3)], tmp_path))
    assert [name for name, (_report, shown) in class_.items() if shown != committed] == []
    assert wrong_with({name: report for name, (report, _shown) in class_.items()}, engine) == []


HANAKO = Report(frozenset({4001, 4002}), frozenset({4001, 4002}), ("tap",), (Connection((4001, 50001), 10, 20),))
TARO = Report(frozenset({4003, 4004}), frozenset({4003, 4004}), ("tap",), (Connection((4003, 50001), 10, 20),))


def test_the_judge_finds_nothing_where_all_is_well() -> None:
    reused = replace(TARO, own=TARO.own | {4001}, connections=(*TARO.connections, Connection((4001, 50001), 21, 30)))
    assert wrong_with({"hanako": HANAKO, "taro": TARO}, "tap") == []
    assert wrong_with({"hanako": HANAKO, "taro": reused}, "tap") == []  # a port may be used again, later


@pytest.mark.parametrize(
    ("taro", "told"),
    [
        (replace(TARO, connections=()), "taro has 0 connections"),
        (replace(TARO, engines=("tap", "live")), "taro has 1 connections, captured by"),
        (replace(TARO, connections=(Connection((4999, 50001), 10, 20),)), "not taro's: [(4999, 50001)]"),
        (replace(TARO, own=TARO.own | {4001}, connections=HANAKO.connections), "captured the same connections"),
        (replace(TARO, listening=frozenset({4002})), "listen on the same ports: [4002]"),
    ],
)
def test_the_judge_finds(taro: Report, told: str) -> None:
    (sentence,) = wrong_with({"hanako": HANAKO, "taro": taro}, "tap")
    assert told in sentence


def test_the_pages_links_and_examples_name_what_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", text)
    assert [link for link in links if "://" not in link and not (PAGE.parent / link).is_file()] == []
    assert [
        anchor
        for anchor in re.findall(r"\]\(#([\w-]+)\)", text)
        if f"## {anchor.replace('-', ' ')}" not in text.lower()
    ] == []
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    learner = yaml.safe_load(block)["singleuser"]
    inside = [
        learner["extraEnv"]["JUPYTER_CONFIG_PATH"],
        re.findall(r"/srv/labkit/\S+", str(learner["lifecycleHooks"]))[0],
    ]
    for path in inside:
        assert list(ROOT.glob(path.removeprefix("/srv/labkit/"))), path
