"""What an eavesdropper learns: ten facts, each with the verdict that the bytes on the wire justify."""

import base64
import email.policy
import ssl
from email.message import EmailMessage

import pytest

from labkit.decode.dissection import dissect
from labkit.decode.exposure import SOURCES, Exposure, Fact, Verdict, expose
from labkit.decode.tls.decrypt import parse_keylog
from labkit.wire.flows import Gap, Side
from tests.decode.conftest import C, S, flow_from, flow_of
from tests.decode.handshakes import Maker

Turns = list[tuple[Side, bytes]]


def a_letter(*, subject: str = "Hello", cte: str = "7bit") -> bytes:
    letter = EmailMessage(policy=email.policy.SMTP)
    letter["From"] = "Hanako <hanako@mail.example>"
    letter["To"] = "taro@mail.example"
    letter["Subject"] = subject
    letter.set_content("Good morning.\n.\nBye.\n", cte=cte)
    letter.add_attachment(b"\x89PNG" + bytes(64), maintype="image", subtype="png", filename="dot.png")
    return letter.as_bytes()


def stuffed(message: bytes) -> bytes:
    return message.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def sending(message: bytes, login: Turns | None = None, size: int | None = None) -> Turns:
    declared = b"" if size is None else b" SIZE=%d" % size
    return [
        (S, b"220 mail.example ESMTP\r\n"),
        (C, b"EHLO client.example\r\n"),
        (S, b"250-mail.example\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n"),
        *(login or []),
        (C, b"MAIL FROM:<hanako@mail.example>" + declared + b"\r\n"),
        (S, b"250 ok\r\n"),
        (C, b"RCPT TO:<taro@mail.example>\r\nRCPT TO:<jiro@elsewhere.example>\r\n"),
        (S, b"250 ok\r\n250 ok\r\n"),
        (C, b"DATA\r\n"),
        (S, b"354 go\r\n"),
        (C, stuffed(message)),
        (S, b"250 ok\r\n"),
        (C, b"QUIT\r\n"),
        (S, b"221 bye\r\n"),
    ]


def reading(message: bytes, login: Turns) -> Turns:
    return [
        (S, b"+OK ready <1.2@mail.example>\r\n"),
        *login,
        (C, b"RETR 1\r\n"),
        (S, b"+OK %d octets\r\n" % len(message) + stuffed(message)),
        (C, b"QUIT\r\n"),
        (S, b"+OK bye\r\n"),
    ]


USER_PASS: Turns = [(C, b"USER hanako\r\n"), (S, b"+OK\r\n"), (C, b"PASS secret\r\n"), (S, b"+OK\r\n")]
APOP: Turns = [(C, b"APOP hanako c4c9334bac560ecc979e58001b3e22fb\r\n"), (S, b"+OK\r\n")]
PLAIN: Turns = [(C, b"AUTH PLAIN " + base64.b64encode(b"\0hanako\0secret") + b"\r\n"), (S, b"235 ok\r\n")]
CRAM: Turns = [
    (C, b"AUTH CRAM-MD5\r\n"),
    (S, b"334 " + base64.b64encode(b"<1.2@mail.example>") + b"\r\n"),
    (C, base64.b64encode(b"hanako b913a602c7eda7a495b4e6e7334d3890") + b"\r\n"),
    (S, b"235 ok\r\n"),
]
SCRAM: Turns = [
    (C, b"AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,,n=hanako,r=abc") + b"\r\n"),
    (S, b"334 " + base64.b64encode(b"r=abcdef,s=QSXCR+Q6sek8bf92,i=4096") + b"\r\n"),
    (C, base64.b64encode(b"c=biws,r=abcdef,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=") + b"\r\n"),
    (S, b"334 " + base64.b64encode(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=") + b"\r\n"),
    (C, b"\r\n"),
    (S, b"235 ok\r\n"),
]


XOAUTH2 = b"user=hanako\x01auth=Bearer ya29.token\x01\x01"
OAUTHBEARER = b"n,a=hanako,\x01host=mail.example\x01port=25\x01auth=Bearer ya29.token\x01\x01"


def exposed(*sessions: tuple[int, Turns]) -> Exposure:
    return expose(dissect(flow_of(said, port=port, number=number)) for number, (port, said) in enumerate(sessions, 1))


@pytest.mark.parametrize(
    ("port", "said", "login", "password"),
    [
        (110, reading(a_letter(), USER_PASS), (Verdict.READABLE, "hanako"), (Verdict.READABLE, "secret")),
        (110, reading(a_letter(), APOP), (Verdict.READABLE, "hanako"), (Verdict.GUESSABLE, None)),
        (25, sending(a_letter(), PLAIN), (Verdict.ENCODED, "hanako"), (Verdict.ENCODED, "secret")),
        (25, sending(a_letter(), CRAM), (Verdict.ENCODED, "hanako"), (Verdict.GUESSABLE, None)),
        (25, sending(a_letter(), SCRAM), (Verdict.ENCODED, "hanako"), (Verdict.GUESSABLE, None)),
        (25, sending(a_letter()), (Verdict.NOT_SENT, None), (Verdict.NOT_SENT, None)),
    ],
)
def test_login_name_and_password(
    port: int, said: Turns, login: tuple[Verdict, str | None], password: tuple[Verdict, str | None]
) -> None:
    exposure = exposed((port, said))
    assert (exposure[Fact.LOGIN_NAME].verdict, exposure[Fact.LOGIN_NAME].value) == login
    assert (exposure[Fact.PASSWORD].verdict, exposure[Fact.PASSWORD].value) == password


CREDENTIAL = b"AGhhbmFrbwBzZWNyZXQ="


@pytest.mark.parametrize(
    "line",
    [
        b"AUTH PLAIN\xc2\xa0" + CREDENTIAL,  # a no-break space
        b"AUTH PLAIN\xe2\x80\x83" + CREDENTIAL,  # an em space
        b"AUTH PLAIN\xe3\x80\x80" + CREDENTIAL,  # an ideographic space
        b"AUTH PLAIN\xa0" + CREDENTIAL,  # a no-break space in ISO 8859-1
        b"AUTH\xe3\x80\x80PLAIN " + CREDENTIAL,
        b"\xe3\x80\x80AUTH PLAIN " + CREDENTIAL,
        b"AUTH\tPLAIN\t" + CREDENTIAL,
        "AUTH PLAıN ".encode() + CREDENTIAL,
        b"AUTH plain " + CREDENTIAL,
        b"AUTH PLAIN " + CREDENTIAL + b" ",
        b"AUTH PLAIN " + CREDENTIAL.rstrip(b"="),
    ],
)
@pytest.mark.parametrize("reply", [b"235 ok\r\n", b"500 what?\r\n", b""])
@pytest.mark.parametrize("port", [25, 110])
def test_a_credential_that_only_a_lenient_server_accepts_can_be_read(line: bytes, reply: bytes, port: int) -> None:
    greeting, reply = (
        (b"220 x\r\n", reply) if port == 25 else (b"+OK\r\n", b"+OK\r\n" if reply[:1] == b"2" else b"-ERR\r\n")
    )
    exposure = exposed((port, [(S, greeting), (C, line + b"\r\n"), (S, reply)]))
    told = {fact: (exposure[fact].verdict, exposure[fact].value) for fact in (Fact.LOGIN_NAME, Fact.PASSWORD)}
    assert told == {
        Fact.LOGIN_NAME: (Verdict.ENCODED, "hanako"),
        Fact.PASSWORD: (Verdict.ENCODED, "secret"),
    }


@pytest.mark.parametrize("line", ["PASS\u00a0secret", "PASS\tsecret", "PAſS secret", "pass secret"])
def test_a_password_that_only_a_lenient_server_accepts_can_be_read(line: str) -> None:
    said = [
        (S, b"+OK\r\n"),
        (C, b"USER\xe3\x80\x80hanako\r\n"),
        (S, b"+OK\r\n"),
        (C, line.encode() + b"\r\n"),
        (S, b"+OK\r\n"),
    ]
    exposure = exposed((110, said))
    assert exposure[Fact.LOGIN_NAME].value == "hanako"
    assert exposure[Fact.PASSWORD].value == "secret"


@pytest.mark.parametrize(("mechanism", "said"), [(b"XOAUTH2", XOAUTH2), (b"OAUTHBEARER", OAUTHBEARER)])
def test_an_access_token_is_as_good_as_a_password(mechanism: bytes, said: bytes) -> None:
    smtp: Turns = [(C, b"AUTH " + mechanism + b" " + base64.b64encode(said) + b"\r\n"), (S, b"235 ok\r\n")]
    pop3: Turns = [(C, b"AUTH " + mechanism + b"\r\n"), (S, b"+ \r\n"), (C, base64.b64encode(said) + b"\r\n")]
    for exposure in (exposed((25, sending(a_letter(), smtp))), exposed((110, reading(a_letter(), pop3)))):
        password = exposure[Fact.PASSWORD]
        assert (password.verdict, password.value) == (Verdict.ENCODED, "access token: Bearer ya29.token")
        assert exposure[Fact.LOGIN_NAME].value == "hanako"
    none: Turns = [(C, b"AUTH " + mechanism + b" " + base64.b64encode(b"auth=\x01\x01") + b"\r\n"), (S, b"535 no\r\n")]
    assert exposed((25, sending(a_letter(), none)))[Fact.PASSWORD].verdict is Verdict.NOT_SENT


def test_the_most_revealing_flow_counts() -> None:
    exposure = exposed(
        (25, sending(a_letter(), PLAIN)), (110, reading(a_letter(), APOP)), (110, reading(a_letter(), USER_PASS))
    )
    assert (exposure[Fact.LOGIN_NAME].verdict, exposure[Fact.LOGIN_NAME].flow) == (Verdict.READABLE, 3)
    assert (exposure[Fact.PASSWORD].verdict, exposure[Fact.PASSWORD].flow) == (Verdict.READABLE, 3)


def test_the_login_that_was_let_in_counts() -> None:
    wrong: Turns = [(C, b"USER taro\r\n"), (S, b"+OK\r\n"), (C, b"PASS guess\r\n"), (S, b"-ERR no\r\n")]
    exposure = exposed((110, reading(a_letter(), wrong + USER_PASS)))
    assert (exposure[Fact.LOGIN_NAME].value, exposure[Fact.PASSWORD].value) == ("hanako", "secret")
    assert exposed((110, [(S, b"+OK\r\n"), *wrong]))[Fact.PASSWORD].value == "guess"


def test_the_transaction_that_was_accepted_counts() -> None:
    refused: Turns = [
        (C, b"MAIL FROM:<forged@nowhere.example>\r\nRCPT TO:<nobody@mail.example>\r\nDATA\r\n"),
        (S, b"553 no\r\n503 no\r\n503 no\r\n"),
        (C, b"RSET\r\n"),
        (S, b"250 ok\r\n"),
    ]
    exposure = exposed((25, sending(a_letter(), refused)))
    assert exposure[Fact.SENDER].value == "hanako@mail.example"
    assert exposure[Fact.RECIPIENTS].value == "taro@mail.example, jiro@elsewhere.example"
    alone = exposed((25, [(S, b"220 mail.example ESMTP\r\n"), *refused]))
    assert alone[Fact.SENDER].value == "forged@nowhere.example"
    assert alone[Fact.RECIPIENTS].value == "nobody@mail.example"


def test_what_a_plain_session_tells() -> None:
    message = a_letter()
    exposure = exposed((25, sending(message, size=len(message))))
    assert {fact: finding.verdict for fact, finding in exposure.items() if finding.verdict is not Verdict.READABLE} == {
        Fact.LOGIN_NAME: Verdict.NOT_SENT,
        Fact.PASSWORD: Verdict.NOT_SENT,
        Fact.ATTACHMENT: Verdict.ENCODED,
    }
    assert exposure[Fact.SENDER].value == "hanako@mail.example"
    assert exposure[Fact.RECIPIENTS].value == "taro@mail.example, jiro@elsewhere.example"
    assert exposure[Fact.SUBJECT].value == "Hello"
    assert exposure[Fact.TEXT].value == "Good morning.\n.\nBye."
    assert exposure[Fact.ATTACHMENT].value == "dot.png, image/png, 68 octets"
    assert exposure[Fact.CLIENT_NAME].value == "client.example"
    assert exposure[Fact.SERVER_NAME].value == "mail.example"
    assert exposure[Fact.MESSAGE_SIZE].value == f"{len(message)} octets"


def test_the_size_is_counted_where_nobody_declares_it() -> None:
    message = a_letter()
    assert exposed((25, sending(message)))[Fact.MESSAGE_SIZE].value == f"{len(message)} octets"


def test_what_was_seen_counts_more_than_what_was_declared() -> None:
    message = a_letter()
    size = exposed((25, sending(message, size=9)))[Fact.MESSAGE_SIZE]
    assert size.value == f"{len(message)} octets"
    lie = reading(message, USER_PASS)
    lie[-3] = (S, b"+OK 9 octets\r\n" + stuffed(message))
    assert exposed((110, lie))[Fact.MESSAGE_SIZE].value == f"{len(message)} octets"


def test_what_was_declared_counts_more_than_a_part() -> None:
    said = sending(a_letter(), size=1234)[:-4]
    said.append((C, b"Subject: Hello\r\n"))
    assert exposed((25, said))[Fact.MESSAGE_SIZE].value == "1234 octets"
    said = sending(a_letter())[:-4]
    said.append((C, b"x"))
    assert exposed((25, said))[Fact.MESSAGE_SIZE].value == "at least 1 octet"


def test_a_message_with_a_hole_is_larger_than_what_was_captured() -> None:
    message = a_letter()
    said = sending(message)
    hole = sum(len(octets) for side, octets in said[:-4] if side is C) + 40
    flow = flow_of(said, gaps={C: (Gap(hole, 100),)})
    assert expose([dissect(flow)])[Fact.MESSAGE_SIZE].value == f"at least {len(message)} octets"


@pytest.mark.parametrize("declared", ["9" * 5000, "²", "-1", ""])
def test_a_declared_size_that_is_no_number_tells_nothing(declared: str) -> None:
    said = sending(a_letter())[:-6]
    said[-4] = (C, f"MAIL FROM:<hanako@mail.example> SIZE={declared}\r\n".encode())
    assert exposed((25, said))[Fact.MESSAGE_SIZE].verdict is Verdict.NOT_SENT


LIST: Turns = [(C, b"LIST\r\n"), (S, b"+OK\r\n1 4088\r\n2 15328\r\n6 3543\r\n.\r\n")]
TOP: Turns = [(C, b"TOP 6 0\r\n"), (S, b"+OK 1930 octets\r\nSubject: Hello\r\n\r\n.\r\n")]


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (LIST, "4088 octets"),
        (LIST + TOP, "3543 octets"),
        ([(C, b"LIST 6\r\n"), (S, b"+OK 6 3543\r\n"), *TOP], "3543 octets"),
        (TOP, None),  # headers and some lines are not the message
        ([*LIST, (C, b"RETR 6\r\n"), (S, b"+OK\r\nSubject: Hello\r\n\r\nx\r\n.\r\n")], "21 octets"),
    ],
)
def test_the_size_that_a_listing_gives(said: Turns, size: str | None) -> None:
    exposure = exposed((110, [(S, b"+OK\r\n"), *USER_PASS, *said]))
    assert exposure[Fact.MESSAGE_SIZE].value == size


def test_a_chunk_that_was_cut_is_not_the_message() -> None:
    said: Turns = [(S, b"220 x\r\n"), (C, b"BDAT 100 LAST\r\nSubject: Hello\r\n")]
    assert exposed((25, said))[Fact.MESSAGE_SIZE].value == "at least 16 octets"


def test_chunks_of_two_messages_are_not_added_up() -> None:
    said: Turns = [
        (S, b"220 x\r\n"),
        (C, b"MAIL FROM:<a@x>\r\nBDAT 7\r\nA: b\r\n\r"),
        (S, b"250 ok\r\n250 ok\r\n"),
        (C, b"BDAT 0 LAST\r\n"),
        (S, b"250 ok\r\n"),
        (C, b"MAIL FROM:<a@x>\r\nBDAT 8 LAST\r\nA: b\r\n\r\n"),
        (S, b"250 ok\r\n250 ok\r\n"),
    ]
    assert exposed((25, said))[Fact.MESSAGE_SIZE].value == "7 octets"


def test_the_size_of_a_message_in_chunks_is_their_sum() -> None:
    message = a_letter()
    said: Turns = [
        (S, b"220 x\r\n"),
        (C, b"BDAT 100\r\n" + message[:100]),
        (S, b"250 ok\r\n"),
        (C, b"BDAT %d LAST\r\n" % (len(message) - 100) + message[100:]),
        (S, b"250 ok\r\n"),
    ]
    exposure = exposed((25, said))
    assert exposure[Fact.MESSAGE_SIZE].value == f"{len(message)} octets"
    assert exposure[Fact.SUBJECT].value == "Hello"


def test_mail_that_is_read_tells_the_same() -> None:
    message = a_letter()
    exposure = exposed((110, reading(message, USER_PASS)))
    assert exposure[Fact.SENDER].value == "Hanako <hanako@mail.example>"
    assert exposure[Fact.RECIPIENTS].value == "taro@mail.example"
    assert exposure[Fact.TEXT].value == "Good morning.\n.\nBye."
    assert exposure[Fact.MESSAGE_SIZE].value == f"{len(message)} octets"
    assert exposure[Fact.CLIENT_NAME].verdict is Verdict.NOT_SENT


def test_encodings_are_called_encodings() -> None:
    exposure = exposed((25, sending(a_letter(subject="写真", cte="base64"))))
    assert (exposure[Fact.SUBJECT].verdict, exposure[Fact.SUBJECT].value) == (Verdict.ENCODED, "写真")
    assert (exposure[Fact.TEXT].verdict, exposure[Fact.TEXT].value) == (Verdict.ENCODED, "Good morning.\n.\nBye.")


def test_the_bytes_that_gave_a_fact_away() -> None:
    said = sending(a_letter(), PLAIN)
    flow = flow_of(said)
    for finding in expose([dissect(flow)]).values():
        if finding.verdict is Verdict.NOT_SENT:
            assert (finding.flow, finding.side, finding.packet, finding.start) == (None, None, None, None)
            continue
        assert finding.side is not None
        assert finding.start is not None
        assert finding.end is not None
        assert finding.packet == flow.stream(finding.side).segment_at(finding.start).packet
        burst = flow.bursts[(finding.burst or 0) - 1]
        assert burst.side is finding.side
        assert burst.start <= finding.start < burst.end
    password = expose([dissect(flow)])[Fact.PASSWORD]
    shown = flow.client_stream.data[password.start : password.end]
    assert base64.b64encode(b"\0hanako\0secret").endswith(shown)


def test_facts_do_not_depend_on_how_tcp_cut_the_bytes() -> None:
    said = sending(a_letter(), PLAIN)
    whole, pieces = (expose([dissect(flow_of(said, cuts=cut))]) for cut in ((), (7, 100, 3)))
    for fact in Fact:
        one, other = whole[fact], pieces[fact]
        assert (one.verdict, one.value, one.burst, one.start) == (other.verdict, other.value, other.burst, other.start)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("reads", [False, True])
def test_under_tls_there_is_a_name_and_a_bound(maker: Maker, version: ssl.TLSVersion, reads: bool) -> None:
    message = a_letter()
    said = reading(message, USER_PASS) if reads else sending(message, PLAIN)
    made = maker.exchange(maker.contexts(version), said)
    flow = flow_from(made.client, made.server, 995 if reads else 465)
    exposure = expose([dissect(flow)])
    hidden = {fact for fact, finding in exposure.items() if finding.verdict is Verdict.HIDDEN}
    assert hidden == set(Fact) - {Fact.SERVER_NAME, Fact.MESSAGE_SIZE, *([Fact.CLIENT_NAME] if reads else [])}
    assert (exposure[Fact.SERVER_NAME].verdict, exposure[Fact.SERVER_NAME].value) == (Verdict.READABLE, "mail.example")
    size = exposure[Fact.MESSAGE_SIZE]
    assert size.verdict is Verdict.SIZE_ONLY
    said_by = S if reads else C
    plaintext = sum(len(octets) for side, octets in (said[1:] if reads else said) if side is said_by)
    plaintext += 2 if version is ssl.TLSVersion.TLSv1_3 else 0  # the closing alert looks like data
    assert size.side is said_by
    assert size.value == f"at most {plaintext} octets"
    assert expose([dissect(flow, keylog=parse_keylog(made.keylog))]) == exposure


def test_a_readable_flow_beside_a_sealed_one_counts(maker: Maker) -> None:
    made = maker.exchange(maker.contexts(ssl.TLSVersion.TLSv1_3), sending(a_letter(), PLAIN))
    sealed = dissect(flow_from(made.client, made.server, 465))
    exposure = expose([sealed, dissect(flow_of(reading(a_letter(), APOP), port=110, number=2))])
    assert (exposure[Fact.LOGIN_NAME].verdict, exposure[Fact.LOGIN_NAME].flow) == (Verdict.READABLE, 2)
    assert exposure[Fact.PASSWORD].verdict is Verdict.GUESSABLE
    assert exposure[Fact.CLIENT_NAME].verdict is Verdict.HIDDEN


def test_a_handshake_alone_hides_nothing() -> None:
    hello = dissect(flow_of([(C, b"\x16\x03\x01\x00\x02\x01\x00"), (S, b"\x15\x03\x03\x00\x02\x02\x28")], port=465))
    assert {finding.verdict for finding in expose([hello]).values()} == {Verdict.NOT_SENT}


def test_nothing_is_known_of_no_conversation() -> None:
    assert {finding.verdict for finding in expose([]).values()} == {Verdict.NOT_SENT}
    assert set(SOURCES) == set(Fact)
