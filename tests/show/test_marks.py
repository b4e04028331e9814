"""The vocabulary: complete, distinct, and readable for everybody."""

from itertools import combinations

import pytest

from labkit.decode.exposure import Verdict
from labkit.decode.spans import Visibility
from labkit.show.marks import FAINT, PAPER, STYLES, TEXT, Style, legend, style, style_of
from tests.show.scripts import AUTH_SENDING, LETTER_SENT, conversation

Colour = tuple[float, float, float]

# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0; they work on linear RGB.
SEEN_WITH = {
    "full colour vision": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}


def linear(colour: str) -> Colour:
    """WCAG 2.2's linear RGB of "#rrggbb"."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    bright = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in map(linear, (one, other)))
    return (bright[1] + 0.05) / (bright[0] + 0.05)


def lab(colour: str, seen: tuple[Colour, ...]) -> Colour:
    """CIE L*a*b* (D65) of a colour as somebody sees it."""
    parts = linear(colour)
    red, green, blue = (min(max(sum(a * b for a, b in zip(row, parts, strict=True)), 0), 1) for row in seen)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def apart(one: str, other: str, seen: tuple[Colour, ...]) -> float:
    pairs = zip(lab(one, seen), lab(other, seen), strict=True)
    return sum((a - b) ** 2 for a, b in pairs) ** 0.5


def test_every_verdict_and_visibility_has_a_look() -> None:
    for what in (*Verdict, *Visibility):
        assert style(what).word == what.value


def test_no_two_looks_share_a_mark() -> None:
    assert len({item.mark for item in STYLES.values()}) == len(STYLES)


@pytest.mark.parametrize("item", STYLES.values(), ids=STYLES)
def test_contrast_reaches_wcag_aa(item: Style) -> None:
    assert contrast(item.ink.value, item.fill.value) >= 4.5
    assert contrast(item.stroke.value, PAPER.value) >= 3


@pytest.mark.parametrize("colour", [TEXT.value, FAINT.value])
def test_words_in_figures_reach_wcag_aa(colour: str) -> None:
    assert contrast(colour, "#ffffff") >= 4.5


@pytest.mark.parametrize("seen", SEEN_WITH.values(), ids=SEEN_WITH)
def test_colours_stay_apart(seen: tuple[Colour, ...]) -> None:
    drawn = [item for item in STYLES.values() if item.name != Verdict.NOT_SENT]  # never drawn in a figure
    for one, other in combinations(drawn, 2):
        assert apart(one.fill.value, other.fill.value, seen) >= 18, (one.name, other.name)
        assert apart(one.stroke.value, other.stroke.value, seen) >= 15, (one.name, other.name)


def test_lines_about_people_are_told_from_protocol_words() -> None:
    lines = conversation(*AUTH_SENDING, *LETTER_SENT).lines
    styles = {line.text.split(" ")[0]: style_of(line).name for line in lines}
    assert styles["MAIL"] == styles["RCPT"] == styles["Subject:"] == "readable"
    assert styles["AUTH"] == "encoded"
    assert styles["EHLO"] == styles["DATA"] == styles["354"] == styles["235"] == "protocol words"


def test_a_legend_has_each_look_once_in_the_vocabularys_order() -> None:
    hidden, readable = STYLES["hidden"], STYLES["readable"]
    assert legend([hidden, readable, hidden]) == (readable, hidden)
