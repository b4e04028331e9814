"""Where a learner works: a folder with the lessons, which JupyterLab opens.

In a clone that is the clone's own folder. An installed package brings the lessons along and puts them into the folder
`notebooks` wherever it is called. What a learner has written is theirs: a lesson that they changed is never written over.
One that they did not change follows the package's edition; to tell, the digest of each lesson is kept as it was put there.
"""

import hashlib
import json
from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from labkit import files
from labkit.errors import BadSetting
from labkit.texts import _

_PACKAGED = resources.files("labkit") / "notebooks"
_CLONE = Path(__file__).parent.parent / "notebooks"
_DIGESTS = ".lessons.json"


class Desk(NamedTuple):
    """A folder with the lessons. kept: the names of those that the learner has changed."""

    folder: Path
    kept: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """The lesson to begin with: its path in the folder."""
        return min(self.folder.glob("en/*.ipynb")).relative_to(self.folder).as_posix()

    def text(self) -> str:
        """What the learner should know of it."""
        said = [_("The lessons are in {folder}.").format(folder=self.folder)]
        if self.kept:
            message = _("Kept as you changed them: {names}. To get one afresh, rename yours and start the lab again.")
            said.append(message.format(names=", ".join(self.kept)))
        return "\n".join(said)


def desk(here: Path) -> Desk:
    """The desk for the lab that is started in the folder `here`. Raises BadSetting when lessons cannot be put there."""
    folder = here / "notebooks"
    if _PACKAGED.is_dir():
        return put_lessons(folder)
    return Desk(folder if any(folder.glob("en/*.ipynb")) else _CLONE)


def put_lessons(folder: Path) -> Desk:
    """Put the lessons into the folder, and keep what a learner has changed. Raises BadSetting when it cannot be written."""
    try:
        (folder / "en").mkdir(parents=True, exist_ok=True)
        return Desk(folder, tuple(_kept(folder)))
    except OSError as error:
        message = _("The lessons cannot be put into {folder}: {why}. Start the lab in a folder of your own.")
        raise BadSetting(message.format(folder=folder, why=error.strerror)) from None


def _kept(folder: Path) -> list[str]:
    """Put them there, but for those that are returned."""
    digests: dict[str, str] = {}
    with suppress(OSError, ValueError):
        digests = json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
    kept = []
    for name, content in published().items():
        lesson = folder / "en" / name
        if lesson.exists() and lesson.read_bytes() != content and _digest(lesson.read_bytes()) != digests.get(name):
            kept.append(name)
            continue
        files.write(lesson, content)
        digests[name] = _digest(content)
    files.write(folder / _DIGESTS, json.dumps(digests, indent=1))
    return kept


def published() -> dict[str, bytes]:
    """The lessons by name: an installed package's, or the clone's."""
    folder: Traversable = _PACKAGED if _PACKAGED.is_dir() else _CLONE
    lessons = [lesson for lesson in (folder / "en").iterdir() if lesson.name.endswith(".ipynb")]
    return {lesson.name: lesson.read_bytes() for lesson in sorted(lessons, key=lambda lesson: lesson.name)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
