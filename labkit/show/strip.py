"""The byte strip: what the bytes of a session are, as one bar in the order of the wire, one bar for each session.

Mail is drawn to scale. A TLS handshake is a block of fixed width with a tear in it, because its size depends on the TLS
library and would make the figure differ from machine to machine.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from labkit.decode.dissection import Dissection
from labkit.show.byte_shares import ByteShare, byte_shares, payload
from labkit.show.comparison import ShownSession
from labkit.show.dialogue import more_connections, protocol_of
from labkit.show.figure import Figure
from labkit.show.groups import sized
from labkit.show.marks import PAPER, STYLES, TEXT, Style, legend
from labkit.show.safe import block, grid, visible
from labkit.show.sheet import END, MIDDLE, Sheet
from labkit.texts import _

NAMES, TOTALS = 2.0, 2.55  # inches for the sessions' titles and for the totals
ROW, BAR = 0.62, 0.4  # inches from bar to bar, and a bar's height
TOP, AXIS, FOOT = 0.3, 0.62, 0.45
BROKEN = 0.42  # inches of a handshake
BARS = 20  # bars that are drawn
PIECES = 400  # shares of a bar that are drawn one by one
GROUPS, TORN = 60, 6  # groups of a bar that has more, and of one with more handshakes than that
NOTE = 0.25  # inches of the line that says so
STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Bar:
    """One session's bytes; without any, a title that says what is not drawn."""

    title: str
    shares: tuple[ByteShare, ...]

    @property
    def scaled(self) -> int:
        """Bytes that are drawn to scale."""
        return sum(share.size for share in self.shares if not share.is_handshake)

    @property
    def broken(self) -> int:
        """How many handshakes it has."""
        return sum(share.is_handshake for share in self.shares)

    @property
    def is_folded(self) -> bool:
        """Whether it has more shares than are drawn one by one."""
        return len(self.shares) > PIECES or self.broken > TORN

    @property
    def drawn(self) -> tuple[ByteShare, ...]:
        """The shares as they are drawn: with too many of them, what looks alike within a group stands together."""
        return tuple(_gathered(self)) if self.is_folded else self.shares


def _gathered(bar: Bar) -> Iterator[ByteShare]:
    """Groups of an equal share of the bytes, the shares in each gathered by their style."""
    groups, scaled = TORN if bar.broken > TORN else GROUPS, max(bar.scaled, 1)
    starts = accumulate((0 if share.is_handshake else share.size for share in bar.shares), initial=0)
    numbered = zip(starts, bar.shares, strict=False)
    for _group, members in groupby(numbered, lambda entry: min(entry[0] * groups // scaled, groups - 1)):
        for style, size in sizes(share for _start, share in members).items():
            yield ByteShare(style, size)


def sizes(found: Iterable[ByteShare]) -> dict[Style, int]:
    """How many bytes look how, in the vocabulary's order."""
    pieces = tuple(found)
    return {
        style: sum(piece.size for piece in pieces if piece.style is style)
        for style in legend(piece.style for piece in pieces)
    }


class Strip(Figure):
    """One bar for each session, or for each conversation of a capture. engine: what made the packets."""

    def __init__(self, shown: Sequence[ShownSession] | Sequence[Dissection], *, engine: str = "") -> None:
        super().__init__(engine)
        self.title = _("What the bytes on the wire are")
        more = more_connections(len(shown) - BARS)
        self.bars = (*map(_bar, shown[:BARS]), *([Bar(more, ())] if more else []))
        self._note = _note(self.bars)
        self.height = TOP + ROW * len(self.bars) + AXIS + FOOT + (NOTE if self._note else 0)

    @property
    def alt(self) -> str:
        told = [": ".join(filter(None, (visible(bar.title), _told(bar)))) for bar in self.bars]
        return _("Bars of bytes in the order of the wire. {bars}.").format(bars="; ".join(told))

    def text(self) -> str:
        head = (_("Session"), _("Bytes"), _("Of these"))
        rows = [(bar.title, payload(bar.shares) if bar.shares else "", _told(bar)) for bar in self.bars]
        return block([self.title, *grid([head, *rows], (40, 30, 100)), *filter(None, [self._note])])

    def draw(self, sheet: Sheet) -> None:
        room = self.width - NAMES - TOTALS
        broken = max((min(bar.broken, TORN) for bar in self.bars), default=0) * BROKEN
        scale = (room - broken) / max([100, *(bar.scaled for bar in self.bars)])
        for number, bar in enumerate(self.bars):
            y = TOP + ROW * number
            if not bar.shares:
                sheet.text(NAMES, y + BAR / 2, bar.title, size=12, centred=True, room=self.width - NAMES - 0.2)
                continue
            sheet.text(NAMES - 0.12, y + BAR / 2, bar.title, size=12, anchor=END, centred=True, room=NAMES - 0.25)
            end = self._draw_bar(sheet, bar, y, scale)
            words = (_("{size} + TLS handshake") if bar.broken else "{size}").format(size=sized(bar.scaled))
            sheet.text(end + 0.1, y + BAR / 2, words, size=11, centred=True, room=self.width - end - 0.2)
        bottom = TOP + ROW * len(self.bars)
        self._draw_axis(sheet, bottom, scale, room)
        styles = legend(share.style for bar in self.bars for share in bar.shares)
        sheet.legend(NAMES + 0.1, self.height - 0.25, styles)
        if self._note:
            sheet.text(NAMES, self.height - FOOT - 0.07, self._note, size=10)

    def _draw_bar(self, sheet: Sheet, bar: Bar, y: float, scale: float) -> float:
        x = NAMES
        for share in bar.drawn:
            width = BROKEN if share.is_handshake else share.size * scale
            sheet.box(x, y, width, BAR, fill=share.style.fill)
            if share.is_handshake:
                _tear(sheet, x + width / 2, y)
                sheet.text(x + width * 0.22, y + BAR / 2, share.style.mark, size=11, anchor=MIDDLE, centred=True)
            elif width > 0.19:
                ink = share.style.ink
                sheet.text(
                    x + width / 2, y + BAR / 2, share.style.mark, size=11, paint=ink, anchor=MIDDLE, centred=True
                )
            x += width
        return x

    def _draw_axis(self, sheet: Sheet, y: float, scale: float, room: float) -> None:
        """Numbers from 0 on; only a ruler where a handshake shifts what comes after it."""
        torn = any(bar.broken for bar in self.bars)
        step = _step(room / scale)
        last = 1 if torn else int(room / scale) // step
        sheet.line((NAMES, y), (NAMES + step * last * scale, y), paint=TEXT, width=1.5)
        for tick in range(last + 1):
            x = NAMES + tick * step * scale
            sheet.line((x, y - 0.06), (x, y + 0.06), paint=TEXT, width=1.5)
            if not torn:
                sheet.text(x, y + 0.24, f"{tick * step:,}", size=10, anchor=MIDDLE)
        if torn:
            words = _("{step:,} bytes; a TLS handshake is not to scale").format(step=step)
            sheet.text(NAMES + step * scale + 0.12, y, words, size=11, centred=True)
        else:
            sheet.text(NAMES + room / 2, y + 0.47, _("bytes on the wire"), size=11, anchor=MIDDLE)


def _note(bars: Iterable[Bar]) -> str:
    """What is said of bars that have too many shares to draw each; empty when there are none."""
    most = max((len(bar.shares) for bar in bars if bar.is_folded), default=0)
    words = _("{count:,} pieces of a bar are too many to draw: neighbours that look alike stand together.")
    return words.format(count=most) if most else ""


def _tear(sheet: Sheet, x: float, y: float) -> None:
    """A white zigzag through a bar: something is left out here."""
    ys = [y - 0.03 + (BAR + 0.06) * step / 6 for step in range(7)]
    xs = [x + (0.05 if step % 2 else -0.05) for step in range(7)]
    sheet.line(*zip(xs, ys, strict=True), paint=PAPER, width=4)


def _step(span: float) -> int:
    """A round number of bytes, so that an axis of this span has at most eight ticks."""
    power = 1
    while True:
        for first in STEPS:
            if span / (first * power) <= 8:
                return first * power
        power *= 10


def _bar(item: ShownSession | Dissection) -> Bar:
    if isinstance(item, ShownSession):
        return Bar(item.title, byte_shares(item.dissections))
    return Bar(protocol_of(item), byte_shares([item]))


def _told(bar: Bar) -> str:
    """How many bytes look how; a handshake's size is not told."""
    told = ((style, "" if style is STYLES["handshake"] else f" {size:,}") for style, size in sizes(bar.shares).items())
    return ", ".join(f"{style.mark}{size} {style.word}" for style, size in told)
