"""Figures: nothing over anything else, large enough to read, the same bytes everywhere, and the same in words."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from labkit.decode.dissection import Dissection, dissect
from labkit.errors import BadSetting
from labkit.show import canvas, sheet
from labkit.show.figure import Figure
from labkit.show.ladder import Ladder
from labkit.show.marks import PAPER, TEXT
from labkit.show.sheet import wrap
from labkit.show.strip import Strip
from labkit.show.timeline import Timeline
from labkit.wire.endpoints import Endpoint
from tests.show.scripts import (
    AUTH_SENDING,
    CHALLENGED,
    LETTER_SENT,
    READING,
    SENDING,
    conversation,
    four_sessions,
    inside_tls,
    script,
    session,
)

HOSTILE = "C: MAIL FROM:<$x^2$\x1b[2J正午\u202e_{\\frac<b>" + "w" * 90 + ">"
Make = Callable[[], Figure]


def capture(*lines: str | bytes) -> list[Dissection]:
    return [conversation(*lines)]


FIGURES: dict[str, Make] = {
    "ladder of four": lambda: Ladder(four_sessions()),
    "ladder of five": lambda: Ladder((*four_sessions(), four_sessions()[1])),
    "ladder of one capture": lambda: Ladder(four_sessions()[3].dissections),
    "ladder of a challenge": lambda: Ladder(capture(*CHALLENGED, *LETTER_SENT)),
    "ladder of hostile bytes": lambda: Ladder(
        [session("正午 $\\x$ " + "long " * 20, (25, script(*SENDING, HOSTILE)))] * 4
    ),
    "ladder of nothing": lambda: Ladder([]),
    "strip of four": lambda: Strip(four_sessions()),
    "strip of one capture": lambda: Strip(four_sessions()[0].dissections),
    "strip of many": lambda: Strip(capture(*SENDING) * 100),
    "strip of a handshake": lambda: Strip([session("cut", (465, inside_tls([])))]),
    "strip of silence": lambda: Strip([session("silent", (25, []))]),
    "ladder of a handshake": lambda: Ladder([session("cut", (465, inside_tls([])))]),
    "timeline of silence": lambda: Timeline(session("silent", (25, [])).dissections),
    "strip of nothing": lambda: Strip([]),
    "timeline of SSL": lambda: Timeline(four_sessions()[3].dissections),
    "timeline of a challenge": lambda: Timeline(capture(*CHALLENGED, *LETTER_SENT)),
    "timeline of many": lambda: Timeline(capture(*SENDING, *["C: NOOP", "S: 250 ok"] * 50)),
    "timeline of nothing": lambda: Timeline([]),
}


def drawn(made: Figure) -> sheet.Sheet:
    paper = sheet.Sheet(made.width, made.height)
    made.draw(paper)
    return paper


def texts(made: Figure) -> list[sheet.Label]:
    return [stroke for stroke in drawn(made).strokes if isinstance(stroke, sheet.Label)]


def extent(text: sheet.Label) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the room that letters take, in inches."""
    left = text.x - {sheet.START: 0.0, sheet.MIDDLE: text.length / 2, sheet.END: text.length}[text.anchor]
    size = text.size * sheet.POINT
    return left, text.y - 0.76 * size, left + text.length, text.y + 0.236 * size


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_no_text_lies_over_another_or_leaves_the_figure(make: Make) -> None:
    made = make()
    boxes = [(text.words, extent(text)) for text in texts(made)]
    for words, (left, top, right, bottom) in boxes:
        assert 0 <= left < right <= made.width, words
        assert 0 <= top < bottom <= made.height, words
    for (one, first), (other, second) in combinations(boxes, 2):
        aside = first[2] <= second[0] + 0.015 or second[2] <= first[0] + 0.015
        below = first[3] <= second[1] + 0.015 or second[3] <= first[1] + 0.015
        assert aside or below, (one, other)


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_text_is_readable_at_notebook_width(make: Make) -> None:
    made = make()
    assert made.width <= 11
    assert all(text.size >= 10 for text in texts(made))


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_a_figure_says_the_same_in_words(make: Make) -> None:
    made = make()
    assert 1 <= len(made.text().splitlines()) <= 25
    assert made.alt.endswith(".")
    assert not re.search(r"[\0-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", made.text() + made.alt)


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_svg_is_whole_and_needs_nothing_else(make: Make) -> None:
    svg = make().svg
    root = ElementTree.fromstring(svg)  # noqa: S314 (our own)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert all(float(text.get("textLength", "0")) > 0 for text in root.iter("{http://www.w3.org/2000/svg}text"))
    assert not re.search(rb"<script|href=|url\(|@import", svg)


def test_twice_the_bytes_are_twice_the_height_in_a_timeline() -> None:
    made = Timeline(capture(*AUTH_SENDING, *LETTER_SENT))
    sizes = [burst.size or 0 for burst in made.panels[0].bursts]
    paints = {burst.style.fill for burst in made.panels[0].bursts}
    areas = [stroke for stroke in drawn(made).strokes if isinstance(stroke, sheet.Area) and stroke.paint in paints]
    heights = [area.points[2][1] - area.points[0][1] for area in areas[: len(sizes)]]
    one = max(heights) / max(sizes)
    tall = [height / size for height, size in zip(heights, sizes, strict=True) if height > 1.5 * min(heights)]
    assert len(tall) > 2
    assert tall == pytest.approx([one] * len(tall))


def test_advances_are_dejavus() -> None:
    from matplotlib.ft2font import FT2Font, LoadFlags

    for face in (sheet.SANS, sheet.BOLD, sheet.WIRE):
        font = FT2Font(canvas._path(face))
        font.set_size(1000, 72)
        for letter in "AZaz09 .,:<>@…–·●◐◒◇◌○→←⇄▲▼éż":
            exact = font.load_char(ord(letter), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536
            assert sheet.measure(letter, face, 1000) / sheet.POINT == pytest.approx(exact, abs=1), (face, letter)


def test_any_script_has_room_and_marks_do_not_pile_up() -> None:
    assert sheet.measure("正午", sheet.SANS, 10) == pytest.approx(2 * 10 * sheet.POINT)
    assert sheet.measure("e\u0301", sheet.SANS, 10) == sheet.measure("e", sheet.SANS, 10)
    assert sheet.drawable("a" + "\u0301" * 9) == "a\u0301\u0301" + "□" * 7
    assert sheet.drawable("\u202e正午\x1b") == "\\u202e正午␛"


def test_a_class_names_each_colour_so_that_a_page_can_give_it_another() -> None:
    svg = Strip(four_sessions()).svg.decode()
    rules, strokes = svg.split("</style>")
    assert ".labkit-sheet .paint-readable{color:#c2410c}" in rules
    assert not re.search("#[0-9a-f]{6}", strokes)
    assert set(re.findall("paint-([a-z-]+)", strokes)) == set(re.findall("paint-([a-z-]+)", rules))


MAKE_SVG = """
import sys, hashlib
from labkit.show.ladder import Ladder
from labkit.show.strip import Strip
from labkit.show.timeline import Timeline
from tests.show.scripts import four_sessions
four = four_sessions()
for figure in (Ladder(four), Strip(four), Timeline(four[3].dissections)):
    print(hashlib.sha256(figure.svg).hexdigest())
assert "matplotlib" not in sys.modules and "numpy" not in sys.modules
"""


def test_svg_is_the_same_in_another_process_with_another_handshake_and_without_matplotlib() -> None:
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            [sys.executable, "-c", MAKE_SVG],
            cwd=root,
            env={"PYTHONHASHSEED": setting, "PYTHONPATH": str(root), "TZ": f"UTC{setting}", "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for setting in ("1", "2")
    ]
    assert len(runs[0].split()) == 3
    assert runs[0] == runs[1]


def test_a_readers_own_settings_stay_as_they_are() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    matplotlib.rcParams["text.color"] = "red"
    try:
        labels = Strip(four_sessions()).matplotlib().axes[0].texts
        assert {label.get_color() for label in labels} <= {item.value for item in (TEXT, PAPER)}
    finally:
        matplotlib.rcParams["text.color"] = before["text.color"]
    assert dict(matplotlib.rcParams) == before


def test_figures_do_not_depend_on_the_size_of_a_handshake() -> None:
    said = script(*AUTH_SENDING, *LETTER_SENT)
    small, large = (session("SSL", (465, inside_tls(said, alpn=alpn))) for alpn in ((), ("x" * 200,) * 3))
    for draw in (Ladder, Strip):
        assert draw([small]).svg == draw([large]).svg
        assert draw([small]).html() == draw([large]).html()


def test_a_figure_in_a_notebook_has_its_words_and_does_not_name_the_engine() -> None:
    made = Strip(four_sessions()[:1], engine="live")
    bundle, metadata = made._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert metadata == {"labkit": {"engine": "live"}}
    assert "live" not in bundle["text/plain"]
    assert bundle == Strip(four_sessions()[:1], engine="tap")._repr_mimebundle_()[0]
    assert re.search(
        r'<img alt="Bars of bytes[^"]+Plaintext: [^"]+" src="data:image/svg\+xml;base64,', bundle["text/html"]
    )
    for line in made.text().splitlines():
        assert line.replace("&", "&amp;").strip() in bundle["text/html"]


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.SVG", b"<svg "), ("a.pdf", b"%PDF")])
def test_a_figure_is_saved_as_its_name_says(tmp_path: Path, name: str, magic: bytes) -> None:
    path = Strip(four_sessions()[:1], engine="tap").save(tmp_path / name)
    assert path.read_bytes().startswith(magic)


def test_a_saved_figure_names_the_engine(tmp_path: Path) -> None:
    shown = four_sessions()[:1]
    saved = {
        engine: Strip(shown, engine=engine).save(tmp_path / f"{engine}.svg").read_bytes() for engine in ("tap", "live")
    }
    assert saved["tap"] != saved["live"]
    assert Strip(shown, engine="tap").svg not in saved.values()


def test_another_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"\.png, \.svg or \.pdf"):
        Strip([]).save(tmp_path / "a.bmp")
    assert not list(tmp_path.iterdir())


def test_protocol_words_share_an_arrow_and_small_records_too() -> None:
    words = Ladder(four_sessions()).text().splitlines()
    assert words[3].startswith(
        "  POP3: ← · +OK POP3 ready; → ● USER taro; ← · +OK; → ● PASS fuji3776; ⇄ · +OK · STAT · +OK"
    )
    assert re.search(r"⇄ ○ \d+ × \d+–\d+ bytes; → ○ \d{3} bytes; ⇄ ○ 3 × ", words[-2])


def test_long_captures_are_counted_where_they_are_not_drawn() -> None:
    lines = [line for number in range(60) for line in (f"C: RCPT TO:<u{number}@mail.example>", f"S: 250 {number}")]
    spoken = conversation(*SENDING, *lines)
    assert "… 81 more arrows, in the capture" in Ladder([spoken]).text()
    assert "… 88 more connections, in the capture" in Ladder([conversation(*READING[:1], port=110)] * 100).text()
    assert "… 80 more connections, in the capture" in Strip([spoken] * 100).text()
    assert "… 94 more connections, in the capture" in Timeline([spoken] * 100).text()


class Counting:
    """Stands for a sheet: how many strokes it is asked for, and how many characters of text."""

    def __init__(self, figure: Figure) -> None:
        self.width, self.height = figure.width, figure.height
        self.strokes = self.characters = 0

    def __getattr__(self, stroke: str) -> Callable[..., None]:
        def draw(*given: object, **_how: object) -> None:
            self.strokes += 1
            self.characters += len(str(given[2])) if stroke == "text" else 0

        return draw


ATTEMPT = ("C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6", "C: aGFuYWtv", "S: 334 UGFzc3dvcmQ6", "C: c2FrdXJh", "S: 535 no")


def test_what_is_drawn_does_not_grow_with_the_capture() -> None:
    long = conversation(*SENDING, *ATTEMPT * 500, "C: MAIL FROM:<" + "a" * 30_000 + ">", "C: NOOP\n" * 3000)
    shaken = inside_tls(script(*AUTH_SENDING))
    many = session("many handshakes", *[(465, shaken)] * 30)
    for made in (Ladder([long]), Strip([long]), Timeline([long]), Strip([many]), Ladder([many])):
        counted = Counting(made)
        made.draw(counted)  # type: ignore[arg-type]
        assert counted.strokes < 1000, made.title
        assert counted.characters < 10_000, made.title
        assert len(made.text()) < 20_000, made.title


def test_a_strip_says_what_it_folds_and_adds_up() -> None:
    long = Strip([conversation(*SENDING, *ATTEMPT * 500)])
    assert "5,001 pieces of a bar are too many to draw" in long.text()
    bar = long.bars[0]
    assert sum(share.size for share in bar.drawn) == sum(share.size for share in bar.shares)
    assert "too many" not in Strip(four_sessions()).text()


def test_a_name_of_4000_octets_is_not_measured_letter_by_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    plain = sheet.measure

    def measure(words: str, face: str, size: float) -> float:
        measured.append(len(words))
        return plain(words, face, size)

    monkeypatch.setattr(sheet, "measure", measure)
    spoken = conversation(*SENDING)
    named = dissect(spoken.flow._replace(client=Endpoint("192.0.2.11", 1, "n" * 4000)))
    for made in (Ladder([named, spoken]), Strip([session("t" * 4000, (25, script(*SENDING)))])):
        assert made.svg
        assert len(made.text() + made.alt) < 10_000
    assert sum(measured) < 10_000


def test_connections_between_several_ends_are_told_apart() -> None:
    one = conversation(*READING, port=110)
    other = dissect(one.flow._replace(client=Endpoint("192.0.2.11", 1)))
    words = Ladder([one, other]).text()
    assert "2 connections\n  POP3  client.example → mail.example: " in words
    assert "\n  POP3  192.0.2.11 → mail.example: " in words


def test_strip_adds_up() -> None:
    text = Strip(four_sessions()).text()
    row = next(line for line in text.splitlines() if line.startswith("Plaintext"))
    total, *shares = (int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", row))
    assert total == sum(shares) == four_sessions()[0].cost.bytes


def test_wrapping_breaks_where_a_reader_would() -> None:
    assert wrap("MAIL FROM:<hanako@mail.example>", 24, 2) == ["MAIL FROM:", "<hanako@mail.example>"]
    assert wrap("235 2.7.0 Authentication successful", 24, 2) == ["235 2.7.0 Authentication", "successful"]
    assert wrap("x" * 30, 10, 2) == ["x" * 10, "x" * 9 + "…"]
    assert wrap("正午に駅前で", 6, 2) == ["正午に", "駅前で"]


def test_views_are_made_without_matplotlib() -> None:
    code = (
        "import sys, labkit.show.comparison, labkit.show.ladder, labkit.show.strip, labkit.show.timeline, labkit.show.page\n"
        "assert not {'matplotlib', 'numpy', 'scapy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
