"""What is fuzzed: functions of bytes that must never raise, hang, let anybody in, or lose what was accepted.

Each target also has a grammar: words and lines of its protocol, from which input is put together. In a dialogue, 0x1E
hands over to the other side, and 0x1F cuts what arrives at once.
"""

import asyncio
import random
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.decode.dissection import dissect
from labkit.decode.exposure import expose
from labkit.decode.headers import frame_spans
from labkit.decode.spans import untiled
from labkit.decode.tls.decrypt import parse_keylog
from labkit.errors import BadCapture, BadKeyLog
from labkit.mail.accounts import Account
from labkit.mail.server import ServerConnection, Want
from labkit.mail.service import MailService
from labkit.mail.smtp import SmtpMachine
from labkit.wire.events import Connection, Event, EventKind
from labkit.wire.flows import Side, reassemble
from labkit.wire.frames import Frame, Synthesizer
from labkit.wire.pcap import parse
from tests.decode.conftest import flow_of
from tests.fuzz import tls
from tests.mail.conftest import Memory, Pop3Session

TURN, CUT = b"\x1e", b"\x1f"
# A password that no input below can hold: who gets in, got in without it.
OWNER = Account("hanako@mail.example", "Hanako Yamada", "a secret that no fuzzer is told, 7b1f", "m1001-hy")
LETTER = b"Subject: x\r\n\r\n.\r\n..dots\r\n"


def pop3(data: bytes) -> None:
    """The POP3 machine: nobody gets in, and the maildrop is free afterwards."""
    service = MailService("smtp-auth", [OWNER])
    session = Pop3Session(service)
    for piece in data.split(CUT):
        _exhaust(session, piece)
        assert session.machine.state.name != "TRANSACTION", "somebody got in without the password"
    session.machine.close()
    assert service.maildrops["hanako"].acquire()


def maildrop(data: bytes) -> None:
    """The POP3 machine after a login: only QUIT deletes, and what it says it sends, it sends."""
    service = MailService("smtp-auth", [OWNER])
    service.maildrops["hanako"].append(LETTER)
    service.maildrops["hanako"].append(b"")
    session = Pop3Session(service)
    _exhaust(session, b"USER hanako\r\nPASS %b\r\n" % OWNER.password.encode())
    assert session.machine.state.name == "TRANSACTION"
    for piece in data.split(CUT):
        _exhaust(session, piece)
    updated = session.machine.state.name == "UPDATE"
    session.machine.close()
    assert updated or len(service.maildrops["hanako"].messages()) == 2
    assert service.maildrops["hanako"].acquire()


def _exhaust(session: Pop3Session, piece: bytes) -> None:
    assert all(answer.endswith(b"\r\n") for answer in session.say(piece))
    while session.machine.wants is Want.TLS:
        session.begin(secured=True)
        _exhaust(session, b"")


class _Smtp:
    """SMTP sessions on one loop, with a transport in memory."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._unhandled)
        self.unhandled: list[Any] = []

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unhandled.append(context)

    def session(self, service: MailService, pieces: list[bytes]) -> bytes:
        """All that the server answers."""
        protocol = ServerConnection(SmtpMachine(service, loop=self.loop), loop=self.loop)
        transport = Memory(protocol, self.loop)
        protocol.connection_made(transport)
        self.rest()
        for piece in pieces:
            if transport.closed:
                break
            protocol.data_received(piece)
            self.rest()
        transport.abort()
        self.rest()
        assert not asyncio.all_tasks(self.loop), "a task outlives its connection"
        assert not self.unhandled, self.unhandled
        return b"".join(transport.writes)

    def rest(self) -> None:
        """A few turns of the loop."""
        for _turn in range(4):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()


_SMTP = _Smtp()


def smtp(data: bytes) -> None:
    """An open SMTP server: as many messages are stored as it accepted."""
    service = MailService("plaintext", [OWNER])
    answers = _SMTP.session(service, data.split(CUT))
    accepted = answers.count(b"250 2.0.0 OK: message stored")
    stored = {id(mail) for mail in service.outgoing}
    kept = len(service.maildrops["hanako"].messages())
    assert max(len(stored), kept) <= accepted <= len(stored) + kept, (accepted, len(stored), kept)


def submission(data: bytes) -> None:
    """A submission server: without the password nothing is stored, whatever is said."""
    service = MailService("smtp-auth", [OWNER])
    _SMTP.session(service, data.split(CUT))
    assert not service.outgoing
    assert not service.maildrops["hanako"].messages()


def capture(data: bytes) -> None:
    """The capture reader: BadCapture or flows whose segments tile their streams."""
    try:
        file = parse(Path("fuzzed"), data)
        frames = [file.frames[number] for number in range(len(file.frames))]
    except BadCapture:
        return
    for frame in frames:
        assert untiled(frame_spans(frame), 0, len(frame.data)) == ""
    for flow in reassemble(file.frames):
        for side in Side:
            stream = flow.stream(side)
            assert sum(segment.end - segment.start for segment in stream.segments) == len(stream.data)


def dialogue(data: bytes) -> None:
    """The decoders: every byte in one leaf, and an exposure, whatever was said."""
    port = {0: 25, 1: 110, 2: 465, 3: 995}.get(data[0] % 5, 4000) if data else 25
    sides = (Side.SERVER, Side.CLIENT)
    flow = flow_of([(sides[number % 2], said) for number, said in enumerate(data[1:].split(TURN))], port=port)
    conversation = dissect(flow)
    expose([conversation])
    for side in Side:
        assert untiled(conversation.spans(side), 0, len(flow.stream(side).data)) == ""
    assert all(line.end >= line.start for line in conversation.lines)


def keylog(data: bytes) -> None:
    """The key log's reader."""
    try:
        parse_keylog(data.decode("utf-8", "replace"))
    except BadKeyLog:
        return


@dataclass(frozen=True, slots=True)
class Target:
    """A function that is fuzzed; seeds to begin with, words to build from."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...]

    def grammatical(self, chance: random.Random) -> bytes:
        """Input put together from the protocol's words."""
        return b"".join(chance.choice(self.words) for _word in range(chance.randint(1, 24)))


def _base64(*texts: bytes) -> tuple[bytes, ...]:
    return tuple(b64encode(text) + b"\r\n" for text in texts)


_ENDS = (b"\r\n", b"\n", b"\r", b" ", CUT, b"\0", b"\xff", b"*\r\n", b"=\r\n", b"." * 300, b"9" * 30, b"\xe6\xad\xa3")
_RESPONSES = _base64(
    b"\0hanako\0sakura", b"hanako", b"n,,n=hanako,r=abc", b"n,a=hanako,n=hanako,r=abc", b"c=biws,r=abc,p=", b""
)
_POP3 = tuple(
    word + b"\r\n"
    for word in (
        *(
            b"USER hanako",
            b"PASS sakura",
            b"PASS",
            b"STAT",
            b"LIST",
            b"LIST 1",
            b"RETR 1",
            b"RETR 2",
            b"TOP 1 0",
            b"DELE 1",
        ),
        *(
            b"RSET",
            b"NOOP",
            b"UIDL",
            b"UIDL 2",
            b"QUIT",
            b"CAPA",
            b"STLS",
            b"UTF8",
            b"AUTH",
            b"AUTH PLAIN",
            b"AUTH LOGIN",
        ),
        *(
            b"AUTH CRAM-MD5",
            b"AUTH SCRAM-SHA-256",
            b"AUTH PLAIN =",
            b"APOP hanako " + b"0" * 32,
            b"DELE 99",
            b"TOP 2 999999",
        ),
    )
)
_SMTP_WORDS = tuple(
    word + b"\r\n"
    for word in (
        *(
            b"EHLO client.example",
            b"HELO x",
            b"MAIL FROM:<a@x.example>",
            b"MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8",
        ),
        *(
            b"MAIL FROM:<a@x> AUTH=<>",
            b"RCPT TO:<hanako@mail.example>",
            b"RCPT TO:<b@y.example>",
            b"RCPT TO:<nobody@mail.example>",
        ),
        *(b"DATA", b"RSET", b"NOOP", b"QUIT", b"VRFY x", b"HELP", b"EXPN x", b"STARTTLS", b"AUTH PLAIN", b"AUTH LOGIN"),
        *(
            b"AUTH CRAM-MD5",
            b"AUTH SCRAM-SHA-256",
            b"auth plain =",
            b"Subject: hello",
            b".",
            b"..",
            b"",
            b"BDAT 5 LAST",
        ),
        *(b"MAIL FROM:<", b"RCPT TO:", b"MAIL FROM:<a@x> SIZE=99999999999", b'RCPT TO:<"a b"@mail.example>'),
    )
)
_REPLIES = tuple(
    word + b"\r\n"
    for word in (
        *(
            b"220 mail.example ESMTP",
            b"250-mail.example",
            b"250-AUTH PLAIN LOGIN",
            b"250 STARTTLS",
            b"250 2.1.0 OK",
            b"354 go",
        ),
        *(
            b"334 ",
            b"334 VXNlcm5hbWU6",
            b"235 2.7.0 OK",
            b"535 5.7.8 no",
            b"221 bye",
            b"+OK ready <1.2@x>",
            b"+OK 2 messages",
        ),
        *(b"-ERR no", b"+ ", b"+OK\r\n1 10\r\n.", b"+OK 10 octets\r\nSubject: x\r\n\r\nhi\r\n."),
    )
)
_MIME = (
    *(
        b"Subject: =?utf-8?B?5q2j?=\r\n",
        b"MIME-Version: 1.0\r\n",
        b'Content-Type: multipart/mixed; boundary="b"\r\n',
        b"\r\n",
    ),
    *(
        b"--b\r\n",
        b"--b--\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
    ),
    *(
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b'Content-Disposition: attachment; filename="x.png"\r\n',
        b"aGVsbG8=\r\n",
    ),
)
_TLS = (
    *(
        b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x02\x01\x00\x00\x00",
        b"\x17\x03\x03\x00\x05abcde",
    ),
    *(
        b"\x16\x03\x03\x00\x2c\x02\x00\x00\x28\x03\x03" + bytes(32) + b"\x00\x13\x02\x00\x00\x00",
        b"\x14\x03\x03\x00\x01\x01",
    ),
    *(
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00",
        b"\x16\x03",
        b"\x00\x00",
        b"\x00\x17\x00\x00",
    ),
)


def _captures() -> tuple[bytes, ...]:
    """Small captures of both kinds, made with our own writer."""
    import tempfile

    from labkit.wire import pcap_writer

    connection = Connection(1, ("127.0.0.1", 50001), ("127.0.0.1", 25))
    said = (b"220 mail.example\r\n", b"EHLO x\r\n", b"250 OK\r\n", b"QUIT\r\n")
    acts = [Event(0, connection, EventKind.OPENED)]
    acts += [Event(n, connection, (EventKind.SENT, EventKind.RECEIVED)[n % 2], text) for n, text in enumerate(said)]
    frames: list[Frame] = Synthesizer().add(
        [*acts, Event(9, connection, EventKind.CLIENT_FIN), Event(9, connection, EventKind.SERVER_FIN)]
    )
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.pcap", "a.pcapng"):
            pcap_writer.write(Path(folder, name), frames, comment="fuzz", keylog="")
            made.append(Path(folder, name).read_bytes())
    return tuple(made)


_PCAP_WORDS = (
    *(
        b"\x0a\x0d\x0d\x0a",
        b"\x4d\x3c\x2b\x1a",
        b"\xd4\xc3\xb2\xa1",
        b"\xa1\xb2\x3c\x4d",
        b"\x06\x00\x00\x00",
        b"\x01\x00\x00\x00",
    ),
    *(
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x20\x00\x00\x00",
        b"\x45\x00\x00\x28",
        b"\x86\xdd",
        b"\x81\x00",
        b"\x08\x00",
    ),
)

TARGETS: Mapping[str, Target] = {
    "POP3 server": Target(pop3, (b"".join(_POP3[:2]), b"AUTH\r\nQUIT\r\n"), (*_POP3, *_ENDS, *_RESPONSES)),
    "POP3 server, logged in": Target(maildrop, (b"STAT\r\nQUIT\r\n",), (*_POP3, *_ENDS)),
    "SMTP server": Target(
        smtp, (b"".join(_SMTP_WORDS[i] for i in (0, 2, 5, 8, 19, 20)),), (*_SMTP_WORDS, *_ENDS, *_RESPONSES)
    ),
    "SMTP server, AUTH required": Target(submission, (b"".join(_SMTP_WORDS[:3]),), (*_SMTP_WORDS, *_ENDS, *_RESPONSES)),
    "capture reader": Target(capture, _captures(), _PCAP_WORDS),
    "decoders, SMTP and POP3": Target(
        dialogue,
        (b"\0" + TURN.join((_REPLIES[0], _SMTP_WORDS[0], _REPLIES[3], _SMTP_WORDS[15], _REPLIES[0])) + TURN + _TLS[0],),
        (*_REPLIES, *_SMTP_WORDS, *_POP3, *_MIME, *_ENDS, *_RESPONSES, TURN, TURN),
    ),
    "decoders, TLS": Target(dialogue, (b"\2" + TURN + TURN.join(_TLS[:3]),), (*_TLS, TURN, b"\0\1", b"\3\3")),
    "TLS without OpenSSL": Target(tls.handshake, tls.SEEDS, tls.WORDS),
    "key log": Target(
        keylog,
        (b"CLIENT_RANDOM " + b"0" * 64 + b" " + b"0" * 96 + b"\n",),
        (b"CLIENT_RANDOM ", b"0" * 64, b" ", b"\n", b"#", b"\xff"),
    ),
}
