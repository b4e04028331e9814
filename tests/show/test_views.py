"""Text and HTML faces: what they say, that it repeats, that hostile bytes stay bytes, and that they are bounded."""

import re
import ssl
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.decode.cost import cost
from labkit.decode.dissection import Dissection, dissect
from labkit.decode.exposure import Fact, expose
from labkit.show.byte_shares import byte_shares
from labkit.show.comparison import ComparisonView, ShownSession
from labkit.show.dialogue import Dialogue
from labkit.show.explain import Explanation
from labkit.show.exposure import ExposureTable
from labkit.show.page import page
from labkit.show.safe import width as columns
from labkit.show.timeline import Timeline
from labkit.show.view import View
from labkit.wire.flows import Side
from tests.conftest import examples
from tests.show.scripts import (
    AUTH_SENDING,
    CHALLENGED,
    LETTER_SENT,
    READING,
    SENDING,
    conversation,
    flow,
    four_sessions,
    inside_tls,
    script,
    session,
)

VOID = {"img", "meta", "br"}


class Checked(HTMLParser):
    """An HTML parser that insists on balance, and remembers what could act or reach out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        assert not [name for name in names if name.startswith("on")]
        self.tags.add(tag)
        self.attributes.append({"tag": tag, **names})
        self.ids += [value for value in [names.get("id")] if value]
        self.addresses += [value for name in ("src", "href") if (value := names.get(name))]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def views(shown: ShownSession) -> list[View]:
    """Every text and HTML view of a session; figures have tests of their own."""
    return [
        Dialogue(shown.dissections),
        ExposureTable(shown.exposure, shown.dissections),
        ComparisonView([shown, shown]),
        Explanation(shown.dissections),
    ]


# --- what they say ---------------------------------------------------------------------------------------------------


def test_a_dialogue_tells_side_mark_and_words() -> None:
    assert Dialogue([conversation(*CHALLENGED)]).text().splitlines() == [
        "SMTP  client.example → mail.example",
        "S: · 220 mail.example ESMTP",
        "C: · EHLO client.example",
        "S: · 250-mail.example",
        "S: · 250-AUTH PLAIN LOGIN CRAM-MD5",
        "S:   … 3 more lines",
        "C: ● AUTH CRAM-MD5",
        "S: ◐ 334 PDE4OTYuNjk3MTcwOTUyQG1haWwuZXhhbXBsZT4=",
        "C: ◒ aGFuYWtvIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw",
        "S: · 235 2.7.0 Authentication successful",
        "",
        "· protocol words   ● readable   ◐ encoded   ◒ guessable",
    ]


def test_a_message_shows_whom_it_is_from_for_and_about_and_folds_the_rest() -> None:
    shown = Dialogue([conversation(*READING, port=110)])
    assert "S: ● Subject: Lunch on Friday?\nS:   … 17 more lines\n" in shown.text()
    assert "Noon at the station?" not in shown.text()
    assert "Noon at the station?" in shown.html()


def test_pipelined_replies_are_not_taken_for_one() -> None:
    lines = Dialogue([conversation(*SENDING, "C: NOOP\nNOOP\nNOOP\nNOOP", "S: 250 a\n250 b\n250 c\n250 d")]).text()
    assert all(f"S: · 250 {word}\n" in lines for word in "abcd")


def test_a_dialogue_without_a_conversation_says_so() -> None:
    assert Dialogue([]).text() in Dialogue([]).html()
    assert Explanation([]).text() == Dialogue([]).text()


def test_what_a_key_opened_is_told_after_what_everybody_sees() -> None:
    outside = four_sessions()[3].dissections[0]
    inside = conversation(*AUTH_SENDING)

    class Both(Dissection):
        opened = inside

    text = Dialogue([Both(outside.flow, outside.protocol)]).text()
    assert (
        text.index("ClientHello") < text.index("inside TLS: only the two ends can read this") < text.index("AUTH PLAIN")
    )


def test_an_exposure_table_locates_by_burst() -> None:
    shown = session("Plaintext", (110, script(*READING)))
    table = ExposureTable(shown.exposure, shown.dissections)
    password = next(line for line in table.text().splitlines() if line.startswith("password"))
    assert re.split(r"\s{2,}", password) == ["password", "● readable", "fuji3776", "POP3 client, burst 4, bytes 16–23"]
    assert shown.dissections[0].flow.client_stream.data[16:24] == b"fuji3776"
    assert table[Fact.PASSWORD] is shown.exposure[Fact.PASSWORD]
    assert len(table) == len(Fact)


def test_bytes_after_a_handshake_are_not_counted_because_they_do_not_repeat() -> None:
    shown = four_sessions()[3]
    size = ExposureTable(shown.exposure, shown.dissections).text().splitlines()[-1]
    assert size.startswith("message size")
    assert re.search(r"SMTPS client, burst \d+$", size)


def test_a_comparison_puts_policies_side_by_side() -> None:
    shown = ComparisonView(four_sessions())
    text = shown.text()
    assert max(map(len, text.splitlines())) <= 118
    assert re.search(r"Plaintext +│ SMTP AUTH +│ POP before SMTP +│ SSL", text)
    assert re.search(r"password, sending +– not sent +◐ encoded +– not sent +○ hidden", text)
    assert re.search(r"password, reading +● readable +● readable +● readable +○ hidden", text)
    assert re.search(r"Plaintext +2 +\d+ +1,464\n", text)
    assert re.search(r"SSL \(implicit TLS\) +2 +\d+ +\d,\d{3} \+ TLS handshake$", text)


def test_the_exact_comparison_tells_packets_and_all_bytes() -> None:
    sessions = four_sessions()
    last = ComparisonView(sessions, exact=True).cost.text().splitlines()[-1]
    total = sum(len(c.flow.client_stream.data) + len(c.flow.server_stream.data) for c in sessions[3].dissections)
    assert last.split()[-2:] == [str(sessions[3].cost.packets), f"{total:,}"]


@pytest.mark.parametrize(
    ("width", "count", "bands"),
    [
        (200, 4, [4]),
        (118, 4, [4]),
        (100, 4, [2, 2]),
        (80, 4, [2, 2]),
        (118, 8, [4, 4]),
        (118, 5, [3, 2]),
        (40, 3, [1] * 3),
    ],
)
def test_a_comparison_fits_the_terminal(width: int, count: int, bands: list[int]) -> None:
    shown = ComparisonView((four_sessions() * 2)[:count], exact=True, width=width)
    assert [line.count("┼") + 1 for line in shown.dialogue.text().splitlines() if line[:1] == "─"] == bands
    lines = shown.text().splitlines()
    assert max(map(columns, lines)) <= max(width, 80), "legend and cost are no narrower"
    assert max(columns(line) for line in lines if "│" in line or line.startswith("password")) <= max(width, 41)
    assert all(session.title in shown.exposure.text() for session in shown.sessions)


@pytest.mark.parametrize("index", range(4))
def test_byte_shares_are_all_bytes(index: int) -> None:
    shown = four_sessions()[index]
    assert sum(share.size for share in byte_shares(shown.dissections)) == shown.cost.bytes


def test_byte_shares_know_content_from_protocol_and_encodings() -> None:
    before = sum(len(octets) for _side, octets in script(*AUTH_SENDING[:3])) + len("AUTH PLAIN ")
    assert [(share.style.name, share.size) for share in byte_shares([conversation(*AUTH_SENDING)])] == [
        ("protocol words", before),
        ("encoded", len("AGhhbmFrbwBzYWt1cmE=")),
        ("protocol words", len("\r\n235 2.7.0 Authentication successful\r\n")),
    ]


# --- that it repeats -------------------------------------------------------------------------------------------------


def test_faces_do_not_depend_on_the_size_of_a_handshake() -> None:
    said = script(*AUTH_SENDING, *LETTER_SENT)
    small, large = inside_tls(said), inside_tls(said, alpn=("x" * 200,) * 3)
    assert len(small[0][1]) != len(large[0][1])
    one, other = session("SSL", (465, small)), session("SSL", (465, large))
    for first, second in zip(views(one)[:3], views(other)[:3], strict=True):
        assert first.text() == second.text()
        assert first.html() == second.html()
    assert Timeline(one.dissections).text() == Timeline(other.dissections).text()


def test_no_port_time_or_packet_number_is_told() -> None:
    shown = session("Plaintext", (25, script(*SENDING, *LETTER_SENT)))
    for view in views(shown)[:3]:
        assert "49152" not in view.text() + view.html()
        assert "packet" not in view.text().casefold()


# --- hostile bytes ---------------------------------------------------------------------------------------------------

HOSTILE = (
    b"C: EHLO <script>alert(1)</script>\x1b[2J\x07",
    b"S: 250-</table><img src=http://evil.example onerror=alert(1)>\n250 ok \xff\xfe\x9b31m",
    b"C: MAIL FROM:<\"'&<b>@x> \xe2\x80\xae\xe2\x80\x8b",
    "S: 250 {{ 7*7 }} {% raw %} $x^2$ 正午".encode(),
    b"C: RCPT TO:<\0>",
    b"S: 250 \r\r ok",
)


def check(view: View) -> None:
    """No control in the text but the line feed; in the HTML only tags that templates wrote."""
    text = view.text()
    assert not re.search(r"[\0-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", text)
    html = view.html()
    assert not re.search(r"[\0-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", html)
    found = Checked(html)
    assert not found.tags & {"script", "iframe", "object", "embed", "form", "b", "link"}
    assert all(address.startswith(("data:image/svg+xml;base64,", "#")) for address in found.addresses)


def test_hostile_bytes_are_shown_and_do_nothing() -> None:
    shown = session("<b>Own</b>\x1b", (25, script(SENDING[0], *HOSTILE)))
    for view in views(shown):
        check(view)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;␛[2J␇" in Dialogue(shown.dissections).html()
    assert "{{ 7*7 }}" in Dialogue(shown.dissections).html()


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(Side), st.binary(min_size=1, max_size=60)), min_size=1, max_size=8))
def test_arbitrary_bytes_do_nothing(said: list[tuple[Side, bytes]]) -> None:
    found = dissect(flow(said, 25))
    shown = ShownSession("any", (found,), expose([found]), cost([found.flow]))
    for view in views(shown):
        check(view)


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_faces_of_a_long_session_are_bounded() -> None:
    lines = [line for number in range(900) for line in (f"C: NOOP {number}", f"S: 250 {number}")]
    long = session("Long", (25, script(*SENDING, *lines, "C: DATA", "S: 354 go", "C: " + "x\n" * 3000 + ".")))
    for view in views(long)[:2] + views(long)[3:]:
        assert len(view.text().splitlines()) <= 30
        assert len(view.html()) < 2_000_000
    assert "C: · NOOP 99\n" in Dialogue(long.dissections).whole().text()
    assert "more lines, in the capture" in Dialogue(long.dissections).whole().text()
    assert "more lines, in the capture" in Dialogue(long.dissections).html()
    assert "more spans, in the capture" in Explanation(long.dissections).html()


def test_a_line_of_a_megabyte_is_shown_by_its_beginning() -> None:
    long = session("Long", (25, script(*SENDING, "C: MAIL FROM:<" + "a" * 1_000_000 + ">")))
    for view in views(long):
        assert len(view.html()) < 300_000
        assert len(view.text()) < 10_000
    assert "999,612 more characters" in Dialogue(long.dissections).html()


def test_messages_without_end_are_bounded() -> None:
    lines = ["C: DATA", "S: 354 go", "C: " + f"{'x' * 300}\n" * 400 + ".", "S: 250 ok"] * 40
    shown = Dialogue([conversation(*SENDING, *lines)] * 3)
    assert len(shown.html()) < 3_000_000
    assert shown.html().count("more lines, in the capture") == 3


def test_faces_of_many_connections_are_bounded() -> None:
    many = [conversation(*SENDING)] * 1000
    for view in (Dialogue(many), Explanation(many)):
        assert "… 960 more connections, in the capture" in view.html()
        assert len(view.html()) < 2_000_000


# --- hexadecimal beside meaning --------------------------------------------------------------------------------------


def test_an_explanation_nests_and_follows_the_wire() -> None:
    html = Explanation([conversation(*SENDING)]).html()
    meanings = ("The server is ready.", "The client says its name", "The server knows the SIZE parameter")
    assert sorted(meanings, key=html.index) == list(meanings)
    assert re.search(r"<details.*<details.*<details.*</details>.*</details>", html, re.DOTALL)
    assert "RFC 5321 section 4.1.1.1" in html


# --- the page --------------------------------------------------------------------------------------------------------


def test_a_page_is_complete_and_needs_nothing_else() -> None:
    shown = four_sessions()[3]
    html = page("A <capture>", [*views(shown), Timeline(shown.dissections)], engine="tap", notes=["It was cut."])
    found = Checked(html)
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    assert found.headings[0] == 1
    assert set(found.headings[1:]) == {2}
    assert len(set(found.ids)) == len(found.ids)
    assert all(
        address.startswith("data:image/svg+xml;base64,") or address[1:] in found.ids for address in found.addresses
    )
    assert {"tag": "meta", "name": "viewport", "content": "width=device-width, initial-scale=1"} in found.attributes
    assert all(item.get("alt") for item in found.attributes if item["tag"] == "img")
    assert all(item.get("scope") for item in found.attributes if item["tag"] == "th")
    assert "script" not in found.tags  # only the explorer has one
    assert re.search(
        r"Content-Security-Policy\" content=\"default-src 'none'; [^\"]*script-src 'sha256-", html.replace("&#39;", "'")
    )
    assert "prefers-color-scheme: dark" in html
    assert "capture engine: tap" in html
    assert "It was cut." in html
    assert "A &lt;capture&gt;" in html
    assert not re.search(r"url\(|@import|http:", html)


def test_tls_versions_are_both_understood() -> None:
    shown = session("1.2", (465, inside_tls(script(*AUTH_SENDING), ssl.TLSVersion.TLSv1_2)))
    assert "ServerHello, TLS 1.2" in Dialogue(shown.dissections).text()
    assert "handshake" in ComparisonView([shown]).cost.text()
