"""The course's steps as data, one module a lesson: `lesson_03.py` holds what notebook 03 asks.

A module is found by its name and gives `lesson()`, a function, so that its sentences are in the language that is asked for
now. A new lesson is a new module and nothing else.
"""

import pkgutil
from importlib import import_module

from labkit.lessons.steps import Lesson, Step

_PREFIX = "lesson_"


def numbers() -> tuple[str, ...]:
    """The numbers of the lessons that have steps, in order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))


def lesson(number: str) -> Lesson | None:
    """A lesson by its number, such as "03"."""
    if number not in numbers():
        return None
    found: Lesson = import_module(f"{__name__}.{_PREFIX}{number}").lesson()
    return found


def step(name: str) -> Step | None:
    """An experiment or exercise by its id, such as "03-1"."""
    found = lesson(name.partition("-")[0])
    return next((item for item in found.steps if item.id == name), None) if found else None
