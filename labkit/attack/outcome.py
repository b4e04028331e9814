"""What an attack came to: a few facts, a conclusion, and nothing that differs between two machines."""

import textwrap
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from markupsafe import Markup

from labkit.errors import LabError, expect
from labkit.provider import Provider
from labkit.show.safe import block, grid, visible
from labkit.show.view import View, render
from labkit.texts import _

TEXT_WIDTH = 96  # columns
COLUMNS = (24, 110)


class Outcome(View):
    """What an attack came to. Subclasses are frozen dataclasses that say `title`, `facts` and `conclusion`."""

    @property
    @abstractmethod
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What was done and seen: pairs of a short name and a value."""

    @property
    @abstractmethod
    def conclusion(self) -> str:
        """What follows, in one or two sentences."""

    def text(self) -> str:
        table = [f"  {row}" for row in grid(self.facts, COLUMNS)]
        words = textwrap.wrap(visible(self.conclusion), TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)
        return block([self.title, *table, *words])

    def body(self) -> Markup:
        rows = [*self.facts, (_("so"), self.conclusion)]
        head = (_("What"), _("How it was"))
        return render(
            "progress.html", {"title": self.title, "head": head, "rows": [(name, (value,)) for name, value in rows]}
        )


def refuse_strangers(victim: object) -> None:
    """Raise BadSetting for what is not a provider of the lab, such as the name of a server somewhere."""
    expect(victim, Provider, _("a labkit.Provider, for this lab attacks nobody but its own providers"))


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the network raises into one sentence for a person."""
    try:
        yield
    except OSError as error:
        message = _(
            "The provider ended the conversation before the attack was over ({reason}): start the provider and try again."
        )
        raise LabError(message.format(reason=error.strerror or error or type(error).__name__)) from error
