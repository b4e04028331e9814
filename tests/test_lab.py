"""A learner's folder: the lessons come into it, and what the learner has written stays."""

from pathlib import Path

import pytest

from labkit import lab
from labkit.errors import BadSetting
from labkit.lab import desk, put_lessons
from tests.notebooks import NOTEBOOKS, lessons

NAMES = [path.name for path in lessons()]


def test_in_a_clone_the_learner_works_in_the_clone(tmp_path: Path) -> None:
    assert desk(tmp_path).folder.samefile(NOTEBOOKS)
    assert desk(tmp_path).first == f"en/{NAMES[0]}"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_lessons_is_taken_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "notebooks" / "en" / "00-mine.ipynb"
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert desk(tmp_path).folder == tmp_path / "notebooks"
    assert desk(tmp_path).first == "en/00-mine.ipynb"


def test_the_lessons_are_put_there_whole(tmp_path: Path) -> None:
    assert put_lessons(tmp_path / "日本 1").kept == ()
    put = tmp_path / "日本 1" / "en"
    assert sorted(path.name for path in put.iterdir()) == NAMES
    assert all((put / path.name).read_bytes() == path.read_bytes() for path in lessons())


def test_what_a_learner_changed_is_kept_and_named_and_what_they_deleted_comes_again(tmp_path: Path) -> None:
    put_lessons(tmp_path)
    changed, deleted, renamed = (tmp_path / "en" / name for name in NAMES[1:4])
    changed.write_text("mine")
    deleted.unlink()
    renamed.rename(tmp_path / "en" / "mine.ipynb")
    for _again in range(2):
        found = put_lessons(tmp_path)
        assert found.kept == (changed.name,)
        assert changed.name in found.text()
        assert changed.read_text() == "mine"
        assert sorted(path.name for path in (tmp_path / "en").iterdir()) == [*NAMES, "mine.ipynb"]


@pytest.mark.parametrize("record", ["", "{}", None])
def test_a_newer_edition_replaces_what_nobody_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str | None
) -> None:
    editions = [{"00-a.ipynb": b"old", "01-b.ipynb": b"old"}, {"00-a.ipynb": b"new", "01-b.ipynb": b"new"}]
    monkeypatch.setattr(lab, "published", lambda: editions[0])
    put_lessons(tmp_path)
    (tmp_path / "en" / "01-b.ipynb").write_bytes(b"mine")
    if record is not None:  # without a record nobody knows who wrote what: then all that differs is kept
        (tmp_path / ".lessons.json").write_text(record)
    monkeypatch.setattr(lab, "published", lambda: editions[1])
    assert put_lessons(tmp_path).kept == (("01-b.ipynb",) if record is None else ("00-a.ipynb", "01-b.ipynb"))
    assert (tmp_path / "en" / "00-a.ipynb").read_bytes() == (b"new" if record is None else b"old")
    assert (tmp_path / "en" / "01-b.ipynb").read_bytes() == b"mine"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "notebooks").touch()
    with pytest.raises(BadSetting, match=r"cannot be put into .*notebooks: "):
        put_lessons(tmp_path / "notebooks")
