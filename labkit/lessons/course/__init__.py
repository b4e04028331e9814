"""The course's steps as data, one module a lesson: the STEPS of `lesson_03.py` answer what notebook 03 asks.

A module is found by its name. A new lesson is a new module and nothing else.
"""

import pkgutil
from functools import cache
from importlib import import_module

from labkit.lessons.steps import Step

_PREFIX = "lesson_"


@cache
def numbers() -> tuple[str, ...]:
    """The numbers of the lessons that have steps, in order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))


def steps(number: str) -> tuple[Step, ...]:
    """The steps of a lesson by its number, such as "03", in the order of its notebook; none for another number."""
    if number not in numbers():
        return ()
    found: tuple[Step, ...] = import_module(f"{__name__}.{_PREFIX}{number}").STEPS
    return found


def step(name: str) -> Step | None:
    """An experiment or exercise by its id, such as "03-1"."""
    return next((item for item in steps(name.partition("-")[0]) if item.id == name), None)
