"""The contract of spans: every byte in exactly one leaf, whatever the bytes are and however TCP cut them."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from labkit.decode.dissection import Dissection, dissect
from labkit.decode.exposure import expose
from labkit.decode.protocol import Protocol
from labkit.decode.protocols import POP3, SMTP, SMTPS, UNKNOWN
from labkit.decode.spans import Span, Tiles, Visibility, at, hardest_to_read, leaves, untiled, window
from labkit.wire.flows import Gap, Side
from tests.conftest import examples
from tests.decode.conftest import C, S, flow_of

Turns = list[tuple[Side, bytes]]

CLIENT_LINES = [
    b"EHLO client.example",
    b"HELO x",
    b"ehlo",
    b"MAIL FROM:<hanako@mail.example> SIZE=1200 BODY=8BITMIME SMTPUTF8 AUTH=<>",
    b"MAIL FROM:<>",
    b"MAIL FROM: <a@b>  X",
    b'RCPT TO:<"odd > name"@mail.example> NOTIFY=NEVER ORCPT=rfc822;a@b',
    b"RCPT TO:<@relay.example:taro@mail.example>",
    b"RCPT TO:",
    b"DATA",
    b"BDAT 12 LAST",
    b"BDAT 5",
    b"BDAT nonsense",
    b"AUTH PLAIN AGhhbmFrbwBzZWNyZXQ=",
    b"AUTH LOGIN aGFuYWtv",
    b"AUTH LOGIN",
    b"AUTH CRAM-MD5",
    b"AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
    b"AUTH XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIHgBAQ==",
    b"AUTH =",
    b"*",
    b"=",
    b"aGFuYWtv",
    b"!!!",
    b"STARTTLS",
    b"STLS",
    b"QUIT",
    b"USER hanako",
    b"PASS a b c",
    b"APOP hanako c4c9334bac560ecc979e58001b3e22fb",
    b"APOP broken",
    b"STAT",
    b"LIST",
    b"LIST 1",
    b"UIDL",
    b"RETR 1",
    b"TOP 1 0",
    b"CAPA",
    b"XTND",
    b"",
    b".",
    b"..",
    b".dot",
    b"Subject: =?utf-8?B?5pel5pys?= =?utf-8?Q?=E8=AA=9E?=",
    b"Content-Type: multipart/mixed;",
    b' boundary="b"',
    b"Content-Type: text/plain; charset=iso-2022-jp",
    b"Content-Type: message/rfc822",
    b"Content-Transfer-Encoding: base64",
    b"Content-Disposition: attachment; filename*0*=utf-8''%e6%97; filename*1=x",
    b"--b",
    b"--b--",
    b"\x16\x03\x01\x00\x05hello",
]
SERVER_LINES = [
    b"220 mail.example ESMTP",
    b"220",
    b"250-mail.example greets you",
    b"250-SIZE 1000",
    b"250-AUTH PLAIN LOGIN",
    b"250 HELP",
    b"250 2.1.0 OK",
    b"334 VXNlcm5hbWU6",
    b"334 ",
    b"334",
    b"354 go on",
    b"235 2.7.0 done",
    b"535 5.7.8 no",
    b"503 5.5.1 no",
    b"25",
    b"nonsense",
    b"+OK",
    b"+OK <1896.697170952@dbc.mtview.ca.us>",
    b"+OK 120 octets",
    b"+OK 2 320",
    b"-ERR [IN-USE] locked",
    b"+ ",
    b"+ PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+",
    b"1 120",
    b"SASL PLAIN CRAM-MD5",
    b".",
    b"Subject: hi",
    b"",
    b"..stuffed",
    b"\x16\x03\x03\x00\x02hi",
]


def lines_of(lines: list[bytes]) -> st.SearchStrategy[bytes]:
    ends = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b""])
    line = st.one_of(st.sampled_from(lines), st.sampled_from(lines), st.binary(max_size=12))
    return st.lists(st.tuples(line, ends).map(b"".join), max_size=9).map(b"".join)


turns = st.lists(
    st.one_of(
        st.tuples(st.just(C), lines_of(CLIENT_LINES)),
        st.tuples(st.just(S), lines_of(SERVER_LINES)),
    ),
    max_size=10,
)
protocols = st.sampled_from([None, SMTP, POP3, SMTPS, UNKNOWN])


def check(conversation: Dissection) -> None:
    """The contract: tiled at every level, a meaning for every byte, and every face can be asked for."""
    for side in Side:
        spans = conversation.spans(side)
        assert untiled(spans, 0, len(conversation.flow.stream(side).data)) == ""
        assert all(span.field and span.meaning for span in leaves(spans))
    for line in conversation.lines:
        assert line.start < line.end
    assert len(conversation.commands) + len(conversation.replies) >= 0
    assert len(expose([conversation])) == 10


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns, protocols, st.booleans())
@example([(C, b"\n" * 5000), (S, b"x\n" * 5000)], SMTP, True)  # nothing may recurse once a line
@example([(S, b"+OK\r\n"), (C, b"RETR 1\r\n"), (S, b"+OK\r\n" + b"x\r\n" * 5000)], POP3, True)
def test_any_dialogue_is_tiled(said: Turns, protocol: Protocol | None, opened: bool) -> None:
    check(dissect(flow_of(said, opened=opened), protocol=protocol))


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300), protocols)
def test_arbitrary_bytes_are_tiled(client: bytes, server: bytes, protocol: Protocol | None) -> None:
    check(dissect(flow_of([(C, client), (S, server)]), protocol=protocol))


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns, protocols, st.data())
def test_gaps_are_survived(said: Turns, protocol: Protocol | None, data: st.DataObject) -> None:
    lengths = {side: sum(len(octets) for of, octets in said if of is side) for side in Side}
    gaps = {
        side: tuple(Gap(position, 10) for position in sorted(data.draw(st.sets(st.integers(0, length), max_size=2))))
        for side, length in lengths.items()
    }
    check(dissect(flow_of(said, gaps=gaps), protocol=protocol))


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns, protocols, st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_spans_do_not_depend_on_how_tcp_cut_the_bytes(
    said: Turns, protocol: Protocol | None, cuts: Sequence[int]
) -> None:
    whole, pieces = (dissect(flow_of(said, cuts=cut), protocol=protocol) for cut in ((), cuts))
    assert whole.client_spans == pieces.client_spans
    assert whole.server_spans == pieces.server_spans
    assert [(line.side, line.kind, line.text) for line in whole.lines] == [
        (line.side, line.kind, line.text) for line in pieces.lines
    ]
    assert [(command.verb, command.argument) for command in whole.commands] == [
        (command.verb, command.argument) for command in pieces.commands
    ]
    assert [(reply.code, reply.text) for reply in whole.replies] == [
        (reply.code, reply.text) for reply in pieces.replies
    ]


GOOD = {
    SMTP: [
        (S, b"220 mail.example ESMTP\r\n"),
        (C, b"EHLO client.example\r\n"),
        (S, b"250-mail.example\r\n250-AUTH PLAIN CRAM-MD5\r\n250 SIZE 1000\r\n"),
        (C, b"AUTH CRAM-MD5\r\n"),
        (S, b"334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n"),
        (C, b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n"),
        (S, b"235 2.7.0 OK\r\n"),
        (C, b"MAIL FROM:<a@x.example> SIZE=40\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"),
        (S, b"250 2.1.0 OK\r\n250 2.1.5 OK\r\n354 go\r\n"),
        (
            C,
            b'Subject: x\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n..y\r\n--b--\r\n.\r\nQUIT\r\n',
        ),
        (S, b"250 2.0.0 OK\r\n221 bye\r\n"),
    ],
    POP3: [
        (S, b"+OK POP3 <1896.697170952@dbc.mtview.ca.us>\r\n"),
        (C, b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"),
        (S, b"+OK maildrop has 1 message (369 octets)\r\n"),
        (C, b"LIST\r\n"),
        (S, b"+OK\r\n1 20\r\n.\r\n"),
        (C, b"RETR 1\r\n"),
        (S, b"+OK 20 octets\r\nSubject: hi\r\n\r\n..dot\r\n.\r\n"),
        (C, b"QUIT\r\n"),
        (S, b"+OK\r\n"),
    ],
}


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(list(GOOD)), st.data())
def test_truncated_and_mutated_sessions_are_tiled(protocol: Protocol, data: st.DataObject) -> None:
    said = list(GOOD[protocol])
    said = said[: data.draw(st.integers(0, len(said)), label="turns")]
    for _time in range(data.draw(st.integers(0, 4), label="mutations")):
        if not said:
            break
        which = data.draw(st.integers(0, len(said) - 1))
        side, octets = said[which]
        where = data.draw(st.integers(0, len(octets)))
        new = data.draw(st.binary(max_size=3))
        said[which] = (side, octets[:where] + new + octets[where + data.draw(st.integers(0, 6)) :])
    check(dissect(flow_of(said), protocol=protocol))


@pytest.mark.parametrize("protocol", list(GOOD))
def test_no_byte_of_a_good_session_is_a_fragment(protocol: Protocol) -> None:
    conversation = dissect(flow_of(GOOD[protocol]), protocol=protocol)
    check(conversation)
    for side in Side:
        for span in leaves(conversation.spans(side)):
            assert not span.field.startswith("fragment")
            assert span.source, span


def test_the_spans_around_a_byte() -> None:
    conversation = dissect(flow_of(GOOD[SMTP]))
    position = conversation.flow.client_stream.data.index(b"x.example")
    assert [span.field for span in at(conversation.client_spans, position)] == [
        "smtp.mail",
        "smtp.mail.sender",
        "smtp.mail.sender.domain",
    ]


def test_tiles_leave_out_what_is_empty_and_window_cuts_at_its_edges() -> None:
    tiles = Tiles(b"abcdef", 0)
    tiles.add(0, "nothing")
    tiles.add(2, "ab")
    tiles.add(6, "rest", visibility=Visibility.ENCODED)
    assert [(span.start, span.end, span.value) for span in tiles.spans] == [(0, 2, "ab"), (2, 6, "cdef")]
    assert hardest_to_read(tiles.spans) is Visibility.ENCODED
    outer = Span(0, 6, "outer", children=tuple(tiles.spans))
    inside = window([outer], 1, 4, 10)
    assert untiled(inside, 11, 14) == ""
    assert [(span.start, span.end) for span in leaves(inside)] == [(11, 12), (12, 14)]
