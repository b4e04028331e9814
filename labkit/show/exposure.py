"""The exposure as a table: for each fact what an eavesdropper gets of it, and the bytes that gave it away."""

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from labkit.decode.dissection import Dissection
from labkit.decode.exposure import Exposure, Fact, Finding
from labkit.decode.protocol import UNKNOWN
from labkit.show.marks import Style, style
from labkit.show.safe import block, glimpse, grid
from labkit.show.view import View, Wire, table
from labkit.texts import _
from labkit.wire.flows import Side

LONGEST_VALUE = 400  # characters of a value in HTML
TEXT_COLUMNS = (14, 12, 40, 46)


def fact_name(fact: Fact) -> str:
    """A fact in the reader's language."""
    return _(fact.value)


def where(finding: Finding, dissection: Dissection | None = None) -> str:
    """The bytes that gave a fact away, told so that it repeats everywhere: by burst and by position within the stream.

    dissection: the one that the finding is about. Positions count from 0, and the last one is included; inside TLS
    they are not told, because they depend on the size of the handshake.
    """
    if finding.side is None or finding.start is None or finding.end is None:
        return ""
    protocol = dissection.protocol if dissection else UNKNOWN
    side = _("client") if finding.side is Side.CLIENT else _("server")
    values = {"protocol": protocol.label or _("flow {number}").format(number=finding.flow), "side": side}
    values |= {"burst": str(finding.burst), "first": f"{finding.start:,}", "last": f"{finding.end - 1:,}"}
    session = dissection.session if dissection else None
    if session and finding.end > (session.client_start if finding.side is Side.CLIENT else session.server_start):
        return _("{protocol} {side}, burst {burst}").format(**values)
    if finding.end - finding.start == 1:
        return _("{protocol} {side}, burst {burst}, byte {first}").format(**values)
    return _("{protocol} {side}, burst {burst}, bytes {first}–{last}").format(**values)


class ExposureTable(View, Mapping[Fact, Finding]):
    """The exposure of one capture: a table, and a mapping from each fact to its finding.

    dissections: those it was computed from, so that "where" can name their protocols.
    """

    def __init__(self, exposure: Exposure, dissections: Sequence[Dissection] = ()) -> None:
        self.title = _("What somebody on the way learns")
        self.head = (_("Fact"), _("Verdict"), _("Value"), _("Where"))
        self._exposure = exposure
        self.rows = tuple(_rows(exposure, dissections))

    def __getitem__(self, fact: Fact) -> Finding:
        return self._exposure[fact]

    def __iter__(self) -> Iterator[Fact]:
        return iter(self._exposure)

    def __len__(self) -> int:
        return len(self._exposure)

    def text(self) -> str:
        rows = [(fact, style.label, value, place) for fact, style, value, place in self.rows]
        return block([self.title, *grid([self.head, *rows], TEXT_COLUMNS)])

    def body(self) -> Markup:
        return table(self.title, self.head, self.rows)


def _rows(exposure: Exposure, dissections: Sequence[Dissection]) -> Iterator[tuple[str, Style, Wire, str]]:
    by_flow = {dissection.flow.number: dissection for dissection in dissections}
    for fact in Fact:
        finding = exposure.get(fact)
        if finding is not None:
            value, place = glimpse(finding.value or "", LONGEST_VALUE), where(finding, by_flow.get(finding.flow or 0))
            yield fact_name(fact), style(finding.verdict), Wire(value), place
