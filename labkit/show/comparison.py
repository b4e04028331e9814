"""The comparison: the same exchange under several policies, side by side.

Three views: what was said, what somebody on the way learns, what it costs. They show only numbers that repeat
everywhere; `exact` adds packets and the bytes of TLS handshakes, which depend on the system and the TLS library.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from markupsafe import Markup

from labkit.decode.cost import Cost
from labkit.decode.dissection import Dissection
from labkit.decode.exposure import Exposure, Fact, Verdict, expose
from labkit.decode.protocol import Service
from labkit.show.byte_shares import byte_shares, payload
from labkit.show.dialogue import ShownConversation, beyond, parts
from labkit.show.exposure import fact_name
from labkit.show.marks import Style, legend, legend_text, style
from labkit.show.safe import block, grid, pad, visible
from labkit.show.safe import width as measure
from labkit.show.view import View, render, table
from labkit.texts import _
from labkit.wire.flows import Side

T = TypeVar("T")
TEXT_WIDTH = 118  # columns of a side-by-side text
NARROWEST = 26  # columns; where a session would get less, fewer sessions stand side by side
TEXT_ROWS = 48  # rows of a side-by-side text
HTML_GROUPS = 60  # groups of a conversation in a column


@dataclass(frozen=True, slots=True)
class ShownSession:
    """One exchange under one policy. title: the policy's title; exposure: what the conversations give away."""

    title: str
    dissections: tuple[Dissection, ...]
    exposure: Exposure
    cost: Cost

    def part(self, service: Service) -> Exposure:
        """What the conversations of this service give away."""
        return expose(dissection for dissection in self.dissections if dissection.protocol.service is service)


class SideBySide(View):
    """The dialogues in columns, each group in one line. width: terminal columns of the text."""

    def __init__(self, sessions: Sequence[ShownSession], *, width: int = TEXT_WIDTH) -> None:
        self.title = _("What was said, side by side")
        self.sessions = tuple(sessions)
        self.columns = tuple(tuple(parts(session.dissections)) for session in sessions)
        self._width = width

    @property
    def styles(self) -> tuple[Style, ...]:
        """The marks that occur."""
        return legend(group.headline.style for column in self.columns for part in column for group in part.groups)

    def text(self) -> str:
        most = max(1, (self._width + 3) // (NARROWEST + 3))
        bands = [line for band in _bands(range(len(self.sessions)), most) for line in ("", *self._band(band))]
        return block([self.title, *bands, "", legend_text(self.styles)])

    def _band(self, which: Sequence[int]) -> Iterator[str]:
        """Some of the sessions side by side, by their numbers."""
        width = (self._width + 3) // len(which) - 3
        columns = [list(_column(self.columns[number], width)) for number in which]
        rows = list(zip_longest(*columns, fillvalue=" " * width))
        yield " │ ".join(pad(visible(self.sessions[number].title), width) for number in which)
        yield "─┼─".join(["─" * width] * len(which))
        yield from (" │ ".join(row) for row in rows[:TEXT_ROWS])
        if len(rows) > TEXT_ROWS:
            yield beyond(len(rows) - TEXT_ROWS)

    def body(self) -> Markup:
        columns = [
            {"title": session.title, "parts": column}
            for session, column in zip(self.sessions, self.columns, strict=True)
        ]
        values = {"title": self.title, "columns": columns, "styles": self.styles}
        return render("side-by-side.html", values | {"limit": HTML_GROUPS, "beyond": beyond})


def _bands(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """The items in as few runs of at most `most` as there can be, about as long as each other."""
    abreast = -(-len(items) // -(-len(items) // most)) if items else 1
    return (items[start : start + abreast] for start in range(0, len(items), abreast))


def _column(column: Sequence[ShownConversation], width: int) -> Iterator[str]:
    for part in column:
        yield pad(visible(part.protocol), width)
        for group in part.groups:
            side = "C:" if group.side is Side.CLIENT else "S:"
            yield pad(f"{side} {group.headline.style.mark} {visible(group.headline.text)}", width)
        yield " " * width


CREDENTIALS = frozenset({Fact.LOGIN_NAME, Fact.PASSWORD})


class ExposureMatrix(View):
    """Facts down, policies across: which policy hides what.

    Login names and passwords are told apart for sending and reading: what protects the one need not protect the other.
    width: terminal columns of the text.
    """

    def __init__(self, sessions: Sequence[ShownSession], *, width: int = TEXT_WIDTH) -> None:
        self.title = _("What somebody on the way learns")
        self._width = width
        self.policies = [session.title for session in sessions]
        sending, reading = (
            [session.part(service) for session in sessions] for service in (Service.SENDING, Service.READING)
        )
        whole = [session.exposure for session in sessions]
        self.rows: list[tuple[str, list[Style]]] = []
        for fact in Fact:
            if fact in CREDENTIALS:
                self.rows.append((_("{fact}, sending").format(fact=fact_name(fact)), _styles(sending, fact)))
                self.rows.append((_("{fact}, reading").format(fact=fact_name(fact)), _styles(reading, fact)))
            else:
                self.rows.append((fact_name(fact), _styles(whole, fact)))

    def text(self) -> str:
        tables = (self._tables(most) for most in range(len(self.policies), 0, -1))
        fitting = (lines for lines in tables if max(map(measure, lines)) <= self._width)
        return block([self.title, *next(fitting, self._tables(1))])

    def _tables(self, most: int) -> list[str]:
        """The matrix, `most` policies side by side."""
        lines = []
        for band in _bands(range(len(self.policies)), most):
            head = (_("Fact"), *(self.policies[number] for number in band))
            rows = [head, *((fact, *(styles[number].label for number in band)) for fact, styles in self.rows)]
            lines += ["", *grid(rows, [22] * len(head))]
        return lines

    def body(self) -> Markup:
        return table(self.title, (_("Fact"), *self.policies), ((fact, *styles) for fact, styles in self.rows))


def _styles(exposures: Sequence[Exposure], fact: Fact) -> list[Style]:
    return [style(exposure[fact].verdict if fact in exposure else Verdict.NOT_SENT) for exposure in exposures]


class CostTable(View):
    """What each policy costs. exact: with packets and all bytes, which differ from machine to machine."""

    def __init__(self, sessions: Sequence[ShownSession], *, exact: bool = False) -> None:
        self.title = _("What it costs")
        self.columns = [_("Policy"), _("Connections"), _("Round trips"), _("Bytes")]
        if exact:
            self.columns = [_("Policy"), _("Connections"), _("Round trips"), _("Packets"), _("Bytes")]
        self.rows = [_cost_row(session, exact=exact) for session in sessions]

    def text(self) -> str:
        return block([self.title, "", *grid([self.columns, *self.rows], [28] * len(self.columns))])

    def body(self) -> Markup:
        return table(self.title, self.columns, self.rows, numbers=True)


def _cost_row(session: ShownSession, *, exact: bool) -> list[str]:
    cost = session.cost
    row = [session.title, f"{cost.connections:,}", f"{cost.round_trips:,}"]
    if exact:
        return [*row, f"{cost.packets:,}", f"{cost.bytes:,}"]
    return [*row, payload(byte_shares(session.dissections))]


class ComparisonView(View):
    """Sessions side by side, in three views; each is there by itself as well.

    exact: with numbers that differ from machine to machine, for a terminal or a page, not for a notebook. width: in terminal
    columns.
    """

    def __init__(self, sessions: Sequence[ShownSession], *, exact: bool = False, width: int = TEXT_WIDTH) -> None:
        self.title = _("{count} sessions side by side").format(count=len(sessions))
        self.sessions = tuple(sessions)
        self.dialogue = SideBySide(sessions, width=width)
        self.exposure = ExposureMatrix(sessions, width=width)
        self.cost = CostTable(sessions, exact=exact)

    @property
    def parts(self) -> tuple[View, ...]:
        """The three views, in order."""
        return self.dialogue, self.exposure, self.cost

    def text(self) -> str:
        return "\n\n".join(part.text() for part in self.parts)

    def body(self) -> Markup:
        return Markup("\n").join(part.body() for part in self.parts)
