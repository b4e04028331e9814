"""SMTP: sessions of the RFCs, and what may go wrong on a wire."""

import pytest

from labkit.decode import smtp
from labkit.decode.dissection import Dissection, LineKind, dissect
from labkit.decode.lines import ElementKind
from labkit.decode.spans import Visibility, leaves, untiled
from labkit.wire.flows import Gap, Side
from tests.decode.conftest import C, S, flow_of
from tests.decode.test_meanings import rows_under

HELLO = [(S, b"220 mail.example ESMTP\r\n"), (C, b"EHLO client.example\r\n"), (S, b"250-mail.example\r\n250 HELP\r\n")]


def verbs(conversation: Dissection) -> list[str]:
    return [command.verb for command in conversation.commands]


def codes(conversation: Dissection) -> list[str]:
    return [reply.code for reply in conversation.replies]


def fields(conversation: Dissection, side: Side = C) -> dict[str, str]:
    assert untiled(conversation.spans(side), 0, len(conversation.flow.stream(side).data)) == ""
    return {span.field: span.value for span in leaves(conversation.spans(side))}


def test_the_scenario_of_rfc_5321_appendix_d1() -> None:
    conversation = dissect(
        flow_of(
            [
                (S, b"220 foo.com Simple Mail Transfer Service Ready\r\n"),
                (C, b"EHLO bar.com\r\n"),
                (S, b"250-foo.com greets bar.com\r\n250-8BITMIME\r\n250-SIZE\r\n250-DSN\r\n250 HELP\r\n"),
                (C, b"MAIL FROM:<Smith@bar.com>\r\n"),
                (S, b"250 OK\r\n"),
                (C, b"RCPT TO:<Jones@foo.com>\r\n"),
                (S, b"250 OK\r\n"),
                (C, b"RCPT TO:<Green@foo.com>\r\n"),
                (S, b"550 No such user here\r\n"),
                (C, b"DATA\r\n"),
                (S, b"354 Start mail input; end with <CRLF>.<CRLF>\r\n"),
                (C, b"Blah blah blah...\r\n...etc. etc. etc.\r\n.\r\n"),
                (S, b"250 OK\r\n"),
                (C, b"QUIT\r\n"),
                (S, b"221 foo.com Service closing transmission channel\r\n"),
            ]
        )
    )
    assert [(command.verb, command.argument) for command in conversation.commands] == [
        ("EHLO", "bar.com"),
        ("MAIL", "FROM:<Smith@bar.com>"),
        ("RCPT", "TO:<Jones@foo.com>"),
        ("RCPT", "TO:<Green@foo.com>"),
        ("DATA", ""),
        ("QUIT", ""),
    ]
    assert codes(conversation) == ["220", "250", "250", "250", "550", "354", "250", "221"]
    assert conversation.replies[1].text == "foo.com greets bar.com\n8BITMIME\nSIZE\nDSN\nHELP"
    assert [line.text for line in conversation.lines if line.kind is LineKind.MESSAGE] == [
        "Blah blah blah...",
        "...etc. etc. etc.",
        ".",
    ]
    assert [line.side for line in conversation.lines][:3] == [S, C, S]
    told = fields(conversation)
    assert told["smtp.mail.sender.local-part"] == "Smith"
    assert told["smtp.mail.sender.domain"] == "bar.com"
    greeting = fields(conversation, S)
    assert greeting["smtp.greeting.server"] == "foo.com"
    assert greeting["smtp.ehlo.server"] == "foo.com"


def test_a_message_may_hold_lines_that_look_like_commands() -> None:
    said = [
        *HELLO,
        (C, b"DATA\r\n"),
        (S, b"354 go\r\n"),
        (C, b"DATA\r\nQUIT\r\n.\r\nRSET\r\n"),
        (S, b"250 ok\r\n250 ok\r\n"),
    ]
    assert verbs(dissect(flow_of(said))) == ["EHLO", "DATA", "RSET"]


def test_a_refused_data_brings_no_message() -> None:
    said = [*HELLO, (C, b"MAIL FROM:<a@b>\r\nDATA\r\nRSET\r\n"), (S, b"550 no\r\n503 no\r\n250 ok\r\n")]
    conversation = dissect(flow_of(said))
    assert verbs(conversation) == ["EHLO", "MAIL", "DATA", "RSET"]
    assert all(line.kind is not LineKind.MESSAGE for line in conversation.lines)


def test_only_crlf_dot_crlf_ends_a_message() -> None:
    inside = b"one\r\n\n.\nMAIL FROM:<smuggled@x>\r\n.\n\r.\r\n"  # RFC 5321 section 4.1.1.4
    said = [
        *HELLO,
        (C, b"DATA\r\n"),
        (S, b"354 go\r\n"),
        (C, inside + b"\r\n.\r\nQUIT\r\n"),
        (S, b"250 ok\r\n221 bye\r\n"),
    ]
    assert verbs(dissect(flow_of(said))) == ["EHLO", "DATA", "QUIT"]


def test_chunks_are_counted_and_not_read() -> None:
    said = [
        *HELLO,
        (C, b"BDAT 8\r\nQUIT\r\n\r\nBDAT 6 LAST\r\nRSET\r\nQUIT\r\n"),
        (S, b"250 8 octets\r\n250 done\r\n221 bye\r\n"),
    ]
    conversation = dissect(flow_of(said))
    assert [(command.verb, command.argument) for command in conversation.commands] == [
        ("EHLO", "client.example"),
        ("BDAT", "8"),
        ("BDAT", "6 LAST"),
        ("QUIT", ""),
    ]
    assert fields(conversation)["smtp.bdat.last"] == "LAST"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            [(C, b"AUTH LOGIN\r\n"), (S, b"334 VXNlcm5hbWU6\r\n"), (C, b"aGFuYWtv\r\n"), (S, b"334 UGFzc3dvcmQ6\r\n"),
             (C, b"c2VjcmV0\r\n"), (S, b"235 ok\r\n"), (C, b"QUIT\r\n"), (S, b"221 bye\r\n")],
            {"sasl.login.name": "hanako", "sasl.login.password": "secret"},
        ),
        (
            [(C, b"auth login aGFuYWtv\r\n"), (S, b"334 UGFzc3dvcmQ6\r\n"), (C, b"c2VjcmV0\r\n"), (S, b"535 no\r\n"),
             (C, b"QUIT\r\n"), (S, b"221 bye\r\n")],
            {"sasl.login.name": "hanako", "sasl.login.password": "secret"},
        ),
        (
            [(C, b"AUTH PLAIN\r\n"), (S, b"334 \r\n"), (C, b"AGhhbmFrbwBzZWNyZXQ=\r\n"), (S, b"235 ok\r\n"),
             (C, b"QUIT\r\n"), (S, b"221 bye\r\n")],
            {"sasl.plain.authcid": "hanako", "sasl.plain.password": "secret"},
        ),
    ],
)  # fmt: skip
def test_auth_lines_are_no_commands(said: list[tuple[Side, bytes]], expected: dict[str, str]) -> None:
    conversation = dissect(flow_of([*HELLO, *said]))
    assert verbs(conversation) == ["EHLO", "AUTH", "QUIT"]
    told = fields(conversation)
    assert expected.items() <= told.items()
    secret = next(line for line in conversation.lines if "c2VjcmV0" in line.text or "AGhhb" in line.text)
    assert (secret.kind, secret.visibility) == (LineKind.AUTH, Visibility.ENCODED)


def test_a_refused_auth_does_not_eat_the_next_command() -> None:
    said = [
        *HELLO,
        (C, b"AUTH CRAM-MD5\r\n"),
        (S, b"504 5.5.4 no\r\n"),
        (C, b"MAIL FROM:<a@b>\r\n"),
        (S, b"530 no\r\n"),
    ]
    conversation = dissect(flow_of(said))
    assert verbs(conversation) == ["EHLO", "AUTH", "MAIL"]
    told = fields(conversation, S)
    assert told["smtp.enhanced"] == "5.5.4"


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (b"250 2.1.0 ok", True),
        (b"550 5.1.1 ok", True),
        (b"250 5.1.1 ok", False),
        (b"250 2.1.0000 x", False),
        (b"250 2.1.0ok", False),
    ],
)
def test_an_enhanced_code_agrees_with_the_code(reply: bytes, kept: bool) -> None:
    said = [*HELLO, (C, b"NOOP\r\n"), (S, reply + b"\r\n")]  # RFC 2034 section 4
    assert ("smtp.enhanced" in fields(dissect(flow_of(said)), S)) is kept


def test_parameters_of_mail_and_rcpt() -> None:
    line = b'MAIL FROM:<"a > b"@x.example> SIZE=1200 BODY=8BITMIME SMTPUTF8 AUTH=<> X=1\r\n'
    told = fields(dissect(flow_of([*HELLO, (C, line), (S, b"250 ok\r\n")])))
    assert told["smtp.mail.sender.local-part"] == '"a > b"'
    assert told["smtp.parameter.size.value"] == "1200"
    assert told["smtp.parameter.body.value"] == "8BITMIME"
    assert told["smtp.parameter.smtputf8.name"] == "SMTPUTF8"
    assert told["smtp.parameter.auth.value"] == "<>"
    assert told["smtp.parameter.other.value"] == "1"


EXTENSIONS = rows_under("smtp.extension") - {"OTHER"}


def test_extensions_have_a_meaning_each() -> None:
    answer = b"".join(b"250-" + key.encode() + b" 1\r\n" for key in EXTENSIONS)
    said = [(S, b"220 x\r\n"), (C, b"EHLO x\r\n"), (S, b"250-x\r\n" + answer + b"250 XNEW\r\n")]
    told = fields(dissect(flow_of(said)), S)
    assert all(f"smtp.ehlo.{key.lower()}.keyword" in told for key in EXTENSIONS)
    assert told["smtp.ehlo.other.keyword"] == "XNEW"


def test_a_source_route_is_not_taken_for_the_mailbox() -> None:
    told = fields(
        dissect(flow_of([*HELLO, (C, b"RCPT TO:<@a.example,@b.example:taro@c.example>\r\n"), (S, b"250 ok\r\n")]))
    )
    assert told["smtp.rcpt.recipient.route"] == "@a.example,@b.example:"
    assert told["smtp.rcpt.recipient.local-part"] == "taro"


# --- what a wire does ------------------------------------------------------------------------------------------------


def test_a_capture_that_begins_inside_a_message() -> None:
    said = [
        (C, b"rest of a line\r\nEHLO is only a word here\r\n.\r\n"),
        (S, b"250 stored\r\n"),
        (C, b"MAIL FROM:<a@b>\r\n"),
        (S, b"250 ok\r\n"),
    ]
    conversation = dissect(flow_of(said, opened=False))
    assert verbs(conversation) == ["MAIL"]
    assert [line.kind for line in conversation.lines][:3] == [LineKind.MESSAGE] * 3


def test_one_side_only() -> None:
    client = b"EHLO x\r\nAUTH LOGIN\r\naGFuYWtv\r\nc2VjcmV0\r\nMAIL FROM:<a@b>\r\nDATA\r\n"
    client += b"Subject: x\r\n\r\nQUIT\r\n.\r\nQUIT\r\n"
    conversation = dissect(flow_of([(C, client)]))
    assert verbs(conversation) == ["EHLO", "AUTH", "MAIL", "DATA", "QUIT"]
    assert fields(conversation)["sasl.login.password"] == "secret"


def test_decoding_goes_on_after_a_gap() -> None:
    said = [
        *HELLO,
        (C, b"MAIL FR"),
        (C, b"xample>\r\nDATA\r\n"),
        (S, b"250 ok\r\n354 go\r\n"),
        (C, b"hi\r\n.\r\nQUIT\r\n"),
    ]
    at = len(b"EHLO client.example\r\nMAIL FR")
    conversation = dissect(flow_of(said, gaps={C: (Gap(at, 9),)}))
    assert verbs(conversation)[0] == "EHLO"
    assert verbs(conversation)[-2:] == ["DATA", "QUIT"]


def test_a_terminator_that_was_lost_does_not_swallow_the_session() -> None:
    said = [
        *HELLO,
        (C, b"DATA\r\n"),
        (S, b"354 go\r\n"),
        (C, b"text"),
        (C, b"MAIL FROM:<a@b>\r\n"),
        (S, b"250 ok\r\n250 ok\r\n"),
    ]
    flow = flow_of(said)
    at = flow.client_stream.data.index(b"MAIL")
    conversation = dissect(flow_of(said, gaps={C: (Gap(at, 5),)}))
    assert verbs(conversation) == ["EHLO", "DATA", "MAIL"]


def test_starttls_refused_stays_in_clear() -> None:
    said = [
        *HELLO,
        (C, b"STARTTLS\r\n"),
        (S, b"454 4.7.0 not now\r\n"),
        (C, b"MAIL FROM:<a@b>\r\n"),
        (S, b"250 ok\r\n"),
    ]
    conversation = dissect(flow_of(said))
    assert conversation.tls is None
    assert verbs(conversation) == ["EHLO", "STARTTLS", "MAIL"]


def test_plaintext_between_starttls_and_tls_is_pointed_out() -> None:
    hello = b"\x16\x03\x01\x00\x02\x01\x00"
    said = [*HELLO, (C, b"STARTTLS\r\nRSET\r\n"), (S, b"220 go\r\n"), (C, hello), (S, b"\x15\x03\x03\x00\x02\x02\x28")]
    conversation = dissect(flow_of(said))
    assert verbs(conversation) == ["EHLO", "STARTTLS"]
    assert conversation.tls is not None
    assert conversation.tls.started == "STARTTLS"
    injected = next(line for line in conversation.lines if line.text == "RSET")
    assert injected.kind is LineKind.OTHER
    assert fields(conversation)["fragment.before-tls"] == "RSET\r\n"


def test_the_listing_makes_no_spans_and_follows_the_replies() -> None:
    flow = flow_of([*HELLO, (C, b"AUTH LOGIN\r\n"), (S, b"334 \r\n"), (C, b"QUIT\r\n"), (S, b"235 ok\r\n")])
    assert [command.verb for command in smtp.commands(flow.client_stream, flow.server_stream, True, True)] == [
        "EHLO",
        "AUTH",
    ]
    reading = smtp.scan(flow.client_stream, flow.server_stream, True, True)
    assert [element.kind for element in reading.client] == [
        ElementKind.COMMAND,
        ElementKind.COMMAND,
        ElementKind.RESPONSE,
    ]


@pytest.mark.parametrize(
    ("reply", "code", "detail"),
    [
        ("432 4.7.12", "A password transition is needed", "a password transition is needed"),
        ("523 5.7.10", "Encryption is needed", "encryption is needed"),
        ("534 5.7.9", "mechanism is too weak", "the authentication mechanism is too weak"),
        ("538 5.7.11", "encrypted connection only", "encryption is needed for this authentication mechanism"),
    ],
)
def test_what_a_refused_mechanism_is_refused_for(reply: str, code: str, detail: str) -> None:
    """RFC 4954 section 6, RFC 5248 section 2.4."""
    said = [(S, b"220 x\r\n"), (C, b"AUTH PLAIN =\r\n"), (S, f"{reply} no\r\n".encode())]
    told = {span.field: span for span in leaves(dissect(flow_of(said)).server_spans)}
    assert code in told["smtp.code"].meaning
    assert f"About: {detail}." in told["smtp.enhanced"].meaning


def test_only_ascii_letters_have_two_cases_and_only_a_space_parts_words() -> None:
    said = ["auth plain AA==", "AUTH PLAıN AA==", "AUTH PLAIN\u00a0AA==", "ſTARTTLS"]
    replies = [(S, b"500 what?\r\n")] * len(said)
    turns = [
        turn for pair in zip([(C, line.encode() + b"\r\n") for line in said], replies, strict=True) for turn in pair
    ]
    conversation = dissect(flow_of([*HELLO, *turns]))
    meanings = [span.meaning for span in leaves(conversation.client_spans) if span.field.startswith(("auth", "space"))]
    assert [(element.about, element.mechanism) for element in conversation._reading.client[1:]] == [
        ("AUTH", "PLAIN"),
        ("AUTH", "PLAıN"),  # not PLAIN
        ("AUTH", "PLAIN"),
        ("STARTTLS", ""),
    ]
    odd = [meaning for meaning in meanings if "lenient" in meaning]
    assert len(odd) == 2
    assert "reads PLAIN" in odd[0]
    assert "has one space" in odd[1]


def test_the_command_list_and_the_spans_agree_on_where_a_word_ends() -> None:
    conversation = dissect(flow_of([*HELLO, (C, b"NOOP\xc2\xa0a b\r\n"), (S, b"250 ok\r\n")]))
    assert conversation.commands[-1][:2] == ("NOOP", "a b")
    assert fields(conversation)["smtp.noop.argument"] == "a b"
