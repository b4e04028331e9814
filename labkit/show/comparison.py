"""The comparison: the same exchange under several policies, side by side.

Three views: what was said, what somebody on the way learns, what it costs. They show only numbers that repeat
everywhere; `exact` adds packets and the bytes of TLS handshakes, which depend on the system and the TLS library.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from markupsafe import Markup

from labkit.decode.cost import Cost
from labkit.decode.dissection import Dissection
from labkit.decode.exposure import Exposure, Fact, Verdict, expose
from labkit.decode.protocol import Service
from labkit.show.byte_shares import byte_shares, payload
from labkit.show.dialogue import Dialogue, ShownConversation, beyond, ends_of, parts, sides
from labkit.show.exposure import fact_name
from labkit.show.marks import Style, legend, legend_text, style
from labkit.show.safe import block, grid, pad, visible
from labkit.show.view import View, render
from labkit.texts import _
from labkit.wire.flows import Side

TEXT_WIDTH = 118  # columns of a side-by-side text
NARROWEST = 26  # columns; where a session would get less, sessions stand below each other
TEXT_ROWS = 48  # rows of a side-by-side text
HTML_GROUPS = 60  # groups of a conversation in a column


@dataclass(frozen=True, slots=True)
class Session:
    """One exchange under one policy. title: the policy's title; exposure: what the conversations give away."""

    title: str
    conversations: tuple[Dissection, ...]
    exposure: Exposure
    cost: Cost

    def part(self, service: Service) -> Exposure:
        """What the conversations of this service give away."""
        return expose(conversation for conversation in self.conversations if conversation.protocol.service is service)


def titled(
    shown: Sequence[Session] | Sequence[Dissection],
) -> Iterator[tuple[str, tuple[Dissection, ...]]]:
    """What figures draw: a title and conversations for each session; the conversations of one capture are one session."""
    alone = tuple(item for item in shown if isinstance(item, Dissection))
    if alone:
        ends = {ends_of(conversation) for conversation in alone}
        yield ends.pop() if len(ends) == 1 else _("{count:,} connections").format(count=len(alone)), alone
    for item in shown:
        if isinstance(item, Session):
            yield item.title, item.conversations


class SideBySide(View):
    """The dialogues in columns, each group in one line."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.title = _("What was said, side by side")
        self.sessions = tuple(sessions)
        self.columns = tuple(tuple(parts(session.conversations)) for session in sessions)

    @property
    def styles(self) -> tuple[Style, ...]:
        """The marks that occur."""
        return legend(group.headline.style for column in self.columns for part in column for group in part.groups)

    def text(self) -> str:
        width = (TEXT_WIDTH + 3) // max(len(self.sessions), 1) - 3
        if width < NARROWEST:
            return "\n\n".join(f"{session.title}\n{Dialogue(session.conversations)}" for session in self.sessions)
        titles = [pad(visible(session.title), width) for session in self.sessions]
        rows = list(zip_longest(*(list(_column(column, width)) for column in self.columns), fillvalue=" " * width))
        left_out = [beyond(len(rows) - TEXT_ROWS)] if len(rows) > TEXT_ROWS else []
        ruled = ["─" * width for _session in self.sessions]
        lines = [" │ ".join(titles), "─┼─".join(ruled), *(" │ ".join(row) for row in rows[:TEXT_ROWS]), *left_out]
        return block([self.title, "", *lines, "", legend_text(self.styles)])

    def body(self) -> Markup:
        columns = [
            {"title": session.title, "parts": column}
            for session, column in zip(self.sessions, self.columns, strict=True)
        ]
        values = {"title": self.title, "columns": columns, "styles": self.styles, "sides": sides()}
        return render("side-by-side.html", values | {"limit": HTML_GROUPS, "beyond": beyond})


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
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.title = _("What somebody on the way learns")
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
        rows = [(_("Fact"), *self.policies), *((fact, *(item.label for item in styles)) for fact, styles in self.rows)]
        return block([self.title, "", *grid(rows, [22] * len(rows[0]))])

    def body(self) -> Markup:
        return render("matrix.html", {"title": self.title, "policies": self.policies, "rows": self.rows})


def _styles(exposures: Sequence[Exposure], fact: Fact) -> list[Style]:
    return [style(exposure[fact].verdict if fact in exposure else Verdict.NOT_SENT) for exposure in exposures]


class CostTable(View):
    """What each policy costs. exact: with packets and all bytes, which differ from machine to machine."""

    def __init__(self, sessions: Sequence[Session], *, exact: bool = False) -> None:
        self.title = _("What it costs")
        self.columns = [_("Policy"), _("Connections"), _("Round trips"), _("Bytes")]
        if exact:
            self.columns = [_("Policy"), _("Connections"), _("Round trips"), _("Packets"), _("Bytes")]
        self.rows = [_cost_row(session, exact=exact) for session in sessions]

    def text(self) -> str:
        return block([self.title, "", *grid([self.columns, *self.rows], [28] * len(self.columns))])

    def body(self) -> Markup:
        return render("cost.html", {"title": self.title, "columns": self.columns, "rows": self.rows})


def _cost_row(session: Session, *, exact: bool) -> list[str]:
    cost = session.cost
    row = [session.title, f"{cost.connections:,}", f"{cost.round_trips:,}"]
    if exact:
        return [*row, f"{cost.packets:,}", f"{cost.bytes:,}"]
    return [*row, payload(byte_shares(session.conversations))]


class ComparisonView(View):
    """The three views of a comparison; each is there by itself as well."""

    def __init__(self, sessions: Sequence[Session], *, exact: bool = False) -> None:
        self.title = _("{count} sessions side by side").format(count=len(sessions))
        self.sessions = tuple(sessions)
        self.dialogue = SideBySide(sessions)
        self.exposure = ExposureMatrix(sessions)
        self.cost = CostTable(sessions, exact=exact)

    def exact(self) -> "ComparisonView":
        """The same with numbers that differ from machine to machine: for a terminal or a page, not for a notebook."""
        return ComparisonView(self.sessions, exact=True)

    @property
    def parts(self) -> tuple[View, ...]:
        """The three views, in order."""
        return self.dialogue, self.exposure, self.cost

    def text(self) -> str:
        return "\n\n".join(part.text() for part in self.parts)

    def body(self) -> Markup:
        return Markup("\n").join(part.body() for part in self.parts)


def comparison(sessions: Sequence[Session]) -> ComparisonView:
    """Sessions side by side: what was said, what somebody on the way learns, what it costs."""
    return ComparisonView(sessions)
