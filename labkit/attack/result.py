"""What an attack came to: a few facts, a conclusion, and nothing that differs between two machines."""

import textwrap
from abc import abstractmethod

from markupsafe import Markup

from labkit.show.safe import block, grid, visible
from labkit.show.view import View, table
from labkit.texts import _

TEXT_WIDTH = 96  # columns
COLUMNS = (24, 110)


class AttackResult(View):
    """What an attack came to. Subclasses are frozen dataclasses with a `heading`, `facts` and a `conclusion`."""

    heading: str  # marked by N_; no field of theirs, for they give it a value without a type

    @property
    def title(self) -> str:  # type: ignore[override]  # in the reader's language, when it is shown
        return _(self.heading)

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
        return table(self.title, (_("What"), _("How it was")), (*self.facts, (_("so"), self.conclusion)))
