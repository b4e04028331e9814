"""POP3: sessions of the RFCs, and what may go wrong on a wire."""

import hashlib

import pytest

from labkit.decode import pop3
from labkit.decode.dissection import Dissection, LineKind, dissect
from labkit.decode.spans import Span, Visibility, leaves, untiled
from labkit.wire.flows import Gap, Side
from tests.decode.conftest import C, S, flow_of
from tests.decode.test_meanings import rows_under

GREETING = (S, b"+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>\r\n")


def session(*said: tuple[Side, bytes]) -> Dissection:
    return dissect(flow_of([GREETING, *said], port=110))


def verbs(conversation: Dissection) -> list[str]:
    return [command.verb for command in conversation.commands]


def spans(conversation: Dissection, side: Side) -> dict[str, Span]:
    assert untiled(conversation.spans(side), 0, len(conversation.flow.stream(side).data)) == ""
    return {span.field: span for span in leaves(conversation.spans(side))}


def test_the_example_session_of_rfc_1939() -> None:
    conversation = session(
        (C, b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"),
        (S, b"+OK mrose's maildrop has 2 messages (320 octets)\r\n"),
        (C, b"STAT\r\n"),
        (S, b"+OK 2 320\r\n"),
        (C, b"LIST\r\n"),
        (S, b"+OK 2 messages (320 octets)\r\n1 120\r\n2 200\r\n.\r\n"),
        (C, b"RETR 1\r\n"),
        (S, b"+OK 120 octets\r\nSubject: hi\r\n\r\n+OK is only text here\r\n..dot\r\n.\r\n"),
        (C, b"DELE 1\r\n"),
        (S, b"+OK message 1 deleted\r\n"),
        (C, b"QUIT\r\n"),
        (S, b"+OK dewey POP3 server signing off (maildrop empty)\r\n"),
    )
    assert verbs(conversation) == ["APOP", "STAT", "LIST", "RETR", "DELE", "QUIT"]
    assert [reply.code for reply in conversation.replies] == ["+OK"] * 7
    assert conversation.replies[3].text == "2 messages (320 octets)\n1 120\n2 200"
    client, server = spans(conversation, C), spans(conversation, S)
    assert server["pop3.greeting.timestamp"].value == "<1896.697170952@dbc.mtview.ca.us>"
    assert client["pop3.apop.name"].value == "mrose"
    digest = client["pop3.apop.digest"]
    assert digest.value == hashlib.md5(server["pop3.greeting.timestamp"].value.encode() + b"tanstaaf").hexdigest()  # noqa: S324
    assert digest.visibility is Visibility.GUESSABLE
    assert (server["pop3.stat.count"].value, server["pop3.stat.size"].value) == ("2", "320")
    assert (server["pop3.list.number"].value, server["pop3.list.size"].value) == ("2", "200")
    assert "message.stuffing" in server
    kinds = [line.kind for line in conversation.lines if line.side is S]
    assert kinds.count(LineKind.LISTING) == 3
    assert kinds.count(LineKind.MESSAGE) == 5


@pytest.mark.parametrize(("announced", "words"), [(23, "exactly 23 came"), (30, "; 23 came")])
def test_announced_octets_against_what_came(announced: int, words: str) -> None:
    message = b"Subject: hi\r\n\r\n..dot..\r\n.\r\n"  # RFC 1939 section 11: without the stuffed dot and the terminator
    conversation = session((C, b"RETR 1\r\n"), (S, b"+OK %d octets\r\n" % announced + message))
    octets = spans(conversation, S)["pop3.retr.octets"]
    assert octets.value.strip() == str(announced)
    assert words in octets.meaning


def test_announced_octets_of_a_message_that_was_cut() -> None:
    conversation = session((C, b"RETR 1\r\n"), (S, b"+OK 300 octets\r\nSubject: hi\r\n"))
    assert "13 were captured" in spans(conversation, S)["pop3.retr.octets"].meaning


def test_which_commands_have_answers_of_several_lines() -> None:
    conversation = session(
        (C, b"CAPA\r\nLIST 1\r\nUIDL 1\r\nUIDL\r\nTOP 1 0\r\nNOOP\r\n"),
        (
            S,
            (
                b"+OK list\r\nSASL PLAIN CRAM-MD5\r\nSTLS\r\nXNEW a\r\n.\r\n+OK 1 120\r\n+OK 1 abc\r\n"
                b"+OK\r\n1 abc\r\n.\r\n+OK\r\nSubject: x\r\n\r\n.\r\n+OK\r\n"
            ),
        ),
    )
    assert [reply.code for reply in conversation.replies] == ["+OK"] * 7
    told = spans(conversation, S)
    assert told["pop3.capa.sasl.parameter"].value == "CRAM-MD5"
    assert told["pop3.capa.other"].value == "XNEW"
    assert told["pop3.uidl.uid"].value == "abc"
    assert told["pop3.list.size"].value == "120"
    assert told["message.subject"].value == "x"


def test_an_error_has_one_line_whatever_the_command() -> None:
    conversation = session((C, b"RETR 9\r\nLIST\r\n"), (S, b"-ERR no such message\r\n-ERR [IN-USE] locked\r\n"))
    assert [reply.code for reply in conversation.replies] == ["+OK", "-ERR", "-ERR"]
    assert spans(conversation, S)["pop3.response-code"].source == "RFC 2449 section 8.1.2"


def test_a_password_may_hold_spaces() -> None:
    conversation = session((C, b"USER hanako\r\nPASS a b  c\r\n"), (S, b"+OK\r\n+OK\r\n"))  # RFC 1939 section 7
    assert spans(conversation, C)["pop3.pass.password"].value == "a b  c"


def test_auth_with_and_without_initial_response() -> None:
    first = session((C, b"AUTH PLAIN AGhhbmFrbwBzZWNyZXQ=\r\n"), (S, b"+OK\r\n"), (C, b"STAT\r\n"), (S, b"+OK 0 0\r\n"))
    second = session(
        (C, b"AUTH PLAIN\r\n"),
        (S, b"+ \r\n"),
        (C, b"AGhhbmFrbwBzZWNyZXQ=\r\n"),
        (S, b"+OK\r\n"),
        (C, b"STAT\r\n"),
        (S, b"+OK 0 0\r\n"),
    )
    for conversation in (first, second):
        assert verbs(conversation) == ["AUTH", "STAT"]
        assert spans(conversation, C)["sasl.plain.password"].value == "secret"


def test_a_plus_goes_on_only_with_auth() -> None:
    conversation = session((C, b"STAT\r\n"), (S, b"+ \r\nnonsense\r\n+OK 1 2\r\n"), (C, b"QUIT\r\n"), (S, b"+OK\r\n"))
    assert verbs(conversation) == ["STAT", "QUIT"]
    assert [reply.code for reply in conversation.replies] == ["+OK", "+OK", "+OK"]


def test_an_unknown_command_with_an_answer_of_several_lines() -> None:
    conversation = session((C, b"XLIST\r\nQUIT\r\n"), (S, b"+OK\r\na\r\nb\r\n.\r\n+OK bye\r\n"))
    assert [reply.code for reply in conversation.replies] == ["+OK", "+OK", "+OK"]
    assert "pop3.unknown.verb" in spans(conversation, C)


def test_a_capture_without_the_greeting() -> None:
    said = [(C, b"CAPA\r\n"), (S, b"+OK\r\nTOP\r\n.\r\n"), (C, b"STAT\r\n"), (S, b"+OK 1 2\r\n")]
    conversation = dissect(flow_of(said, port=110))
    assert [reply.code for reply in conversation.replies] == ["+OK", "+OK"]
    assert spans(conversation, S)["pop3.stat.count"].value == "1"


def test_one_side_only() -> None:
    server = b"+OK hello\r\n+OK\r\n+OK 12 octets\r\nSubject: x\r\n\r\nhi\r\n.\r\n+OK\r\n1 5\r\n.\r\n-ERR no\r\n"
    conversation = dissect(flow_of([(S, server)], port=110))
    assert [reply.code for reply in conversation.replies] == ["+OK", "+OK", "+OK", "+OK", "-ERR"]
    assert spans(conversation, S)["message.subject"].value == "x"
    client = dissect(flow_of([(C, b"USER a\r\nPASS b\r\nRETR 1\r\nQUIT\r\n")], port=110))
    assert verbs(client) == ["USER", "PASS", "RETR", "QUIT"]


def test_decoding_goes_on_after_a_gap() -> None:
    said = [
        GREETING,
        (C, b"RETR 1\r\n"),
        (S, b"+OK\r\nSubj"),
        (S, b"ext\r\n.\r\n"),
        (C, b"STAT\r\n"),
        (S, b"+OK 1 2\r\n"),
    ]
    at = len(GREETING[1]) + len(b"+OK\r\nSubj")
    conversation = dissect(flow_of(said, port=110, gaps={S: (Gap(at, 700),)}))
    assert verbs(conversation) == ["RETR", "STAT"]
    assert [reply.code for reply in conversation.replies] == ["+OK", "+OK", "+OK"]


def test_stls_accepted_and_refused() -> None:
    accepted = session(
        (C, b"STLS\r\n"),
        (S, b"+OK begin\r\n"),
        (C, b"\x16\x03\x01\x00\x02\x01\x00"),
        (S, b"\x15\x03\x03\x00\x02\x02\x28"),
    )
    assert accepted.tls is not None
    assert accepted.tls.started == "STLS"
    refused = session((C, b"STLS\r\n"), (S, b"-ERR no\r\n"), (C, b"USER a\r\n"), (S, b"+OK\r\n"))
    assert refused.tls is None
    assert verbs(refused) == ["STLS", "USER"]


def test_every_command_and_capability_has_a_meaning() -> None:
    for verb in sorted(pop3.VERBS):
        told = spans(session((C, verb.encode() + b" 1\r\n"), (S, b"-ERR\r\n")), C)
        assert told[f"pop3.{verb.lower()}.verb"].source.startswith("RFC ")
    capabilities = rows_under("pop3.capa") - {"OTHER"}
    answer = b"".join(key.encode() + b" x\r\n" for key in capabilities)
    told = spans(session((C, b"CAPA\r\n"), (S, b"+OK\r\n" + answer + b".\r\n")), S)
    assert all(f"pop3.capa.{key.lower()}" in told for key in capabilities)
