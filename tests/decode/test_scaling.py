"""Whatever is sent, the work grows as its length does: four times as much costs about four times as many calls.

Calls are counted, not seconds, so that a busy machine does not decide. What a single call may scan (a search in a long
stream) is counted where such a search is made.
"""

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from labkit.decode import exposure
from labkit.decode.dissection import dissect
from labkit.decode.exposure import expose
from labkit.decode.lines import Terminators
from labkit.show.dialogue import Dialogue
from labkit.show.explain import Explanation
from labkit.wire.flows import Flow, Side
from tests.decode.conftest import C, S, flow_of

Turns = list[tuple[Side, bytes]]

HELLO: Turns = [(S, b"220 x ESMTP\r\n"), (C, b"EHLO x\r\n"), (S, b"250 x\r\n")]
LOGIN: Turns = [(S, b"+OK x\r\n"), (C, b"USER a\r\n"), (S, b"+OK\r\n")]
MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


def mail(message: bytes) -> Turns:
    return [*HELLO, (C, b"DATA\r\n"), (S, b"354 go\r\n"), (C, message + b"\r\n.\r\n"), (S, b"250 ok\r\n")]


def record(kind: int, payload: bytes) -> bytes:
    return bytes([kind, 3, 3]) + len(payload).to_bytes(2, "big") + payload


def nested(count: int) -> bytes:
    level = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"
    return b"".join(level % (number, number) for number in range(count))


CLEAR = record(22, b"\x01\0\0\0")
# shape → (server's port, the turns of a session that is n times something)
SHAPES: dict[str, tuple[int, Callable[[int], Turns]]] = {
    "one-byte lines": (25, lambda n: mail(b"a\r\n" * n)),
    "stuffed dots": (25, lambda n: mail(b"..\r\n" * n)),
    "header fields": (25, lambda n: mail(b"A: b\r\n" * n + b"\r\nx")),
    "encoded words": (25, lambda n: mail(b"Subject: " + b"=?utf-8?Q?a?=\r\n " * n + b"\r\n\r\nx")),
    "parts": (25, lambda n: mail(MIXED + b"--b\r\n\r\nx\r\n" * n + b"--b--\r\n")),
    "lines like boundaries": (25, lambda n: mail(MIXED + b"--bx\r\n" * n)),
    "nested parts": (25, lambda n: mail(nested(n))),
    "attached messages": (25, lambda n: mail(b"Content-Type: message/rfc822\r\n\r\n" * n + b"x")),
    "commands at once": (25, lambda n: [*HELLO, (C, b"NOOP\r\n" * n), (S, b"250 ok\r\n" * n)]),
    "commands in turn": (25, lambda n: HELLO + [(C, b"NOOP\r\n"), (S, b"250 ok\r\n")] * n),
    "commands without answers": (25, lambda n: [(C, b"DATA\r\nx\r\n" * n)]),
    "bare dots": (25, lambda n: [*HELLO, (C, b"DATA\r\n.\n" * n), (S, b"354 x\r\n250 x\r\n" * n)]),
    "an answer without end": (25, lambda n: [*HELLO, (C, b"NOOP\r\n"), (S, b"250-x\r\n" * n)]),
    "chunks": (25, lambda n: [*HELLO, (C, b"BDAT 1\r\nx" * n), (S, b"250 x\r\n" * n)]),
    "steps of AUTH": (25, lambda n: [*HELLO, (C, b"AUTH LOGIN\r\n" + b"YQ==\r\n" * n), (S, b"334 YQ==\r\n" * n)]),
    "parameters": (25, lambda n: [*HELLO, (C, b"MAIL FROM:<a@b>" + b" SIZE=1" * n + b"\r\n"), (S, b"250 x\r\n")]),
    "messages read": (110, lambda n: [*LOGIN, (C, b"RETR 1\r\n" * n), (S, b"+OK\r\nA: b\r\n\r\nx\r\n.\r\n" * n)]),
    "messages without end": (110, lambda n: [*LOGIN, (C, b"RETR 1\r\n" * n), (S, b"+OK\r\n" * n)]),
    "a listing": (110, lambda n: [*LOGIN, (C, b"LIST\r\n"), (S, b"+OK\r\n" + b"1 2\r\n" * n + b".\r\n")]),
    "answers that are none": (110, lambda n: [*LOGIN, (C, b"XX\r\n" * n), (S, b"+OK\r\nx\r\n" * n)]),
    "TLS records": (465, lambda n: [(C, CLEAR + record(23, b"x" * 20) * n), (S, CLEAR)]),
    "TLS records in turn": (
        465,
        lambda n: [(C, CLEAR), (S, CLEAR)] + [(C, record(23, b"x")), (S, record(23, b"y"))] * n,
    ),
    "handshake messages": (465, lambda n: [(C, CLEAR * n), (S, CLEAR * n)]),
    "a handshake message by the octet": (
        465,
        lambda n: [(C, record(22, b"\x01\xff\xff\xff") + record(22, b"a") * n), (S, CLEAR)],
    ),
    "what is no record": (465, lambda n: [(C, CLEAR + b"\x17\x03\x03\x00\x01z\x00" * n), (S, CLEAR)]),
}
WORK: dict[str, Callable[[Flow], object]] = {
    "commands": lambda flow: dissect(flow).commands,
    "replies": lambda flow: dissect(flow).replies,
    "spans": lambda flow: [dissect(flow).spans(side) for side in Side],
    "lines": lambda flow: dissect(flow).lines,
    "exposure": lambda flow: expose([dissect(flow)]),
    "dialogue": lambda flow: Dialogue([dissect(flow)]).text(),
    "explanation": lambda flow: Explanation([dissect(flow)]).text(),
}


def calls(work: Callable[[Flow], object], flow: Flow) -> int:
    """How many functions are called, Python's own among them."""
    count = 0

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work(flow)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_work_grows_as_the_bytes_do(shape: str) -> None:
    port, turns = SHAPES[shape]
    small, large = (flow_of(turns(count), port=port) for count in (100, 400))
    for name, work in WORK.items():
        work(flow_of(turns(2), port=port))  # what is made once, such as templates, does not count
        assert calls(work, large) < 5 * calls(work, small), name


class Searched(bytes):
    """Counts the octets that `find` may have looked at."""

    octets = 0

    def find(self, *arguments: object) -> int:
        found = super().find(*arguments)  # type: ignore[arg-type]
        start = int(arguments[1])  # type: ignore[call-overload]
        Searched.octets += (len(self) if found < 0 else found) - start
        return found


def test_a_terminator_that_never_comes_is_searched_for_once() -> None:
    data = Searched(b"x\n.\n" * 1000)
    terminators = Terminators(data)
    at, found = 0, 0
    while stop := terminators.after(at):
        at, found = stop[1], found + 1
    assert found == 1000
    assert Searched.octets <= len(data)


def test_a_message_in_many_chunks_is_tidied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tidied = []
    tidy = exposure.neat

    def tidy_and_note(value: str) -> str:
        tidied.append(value)
        return tidy(value)

    monkeypatch.setattr(exposure, "neat", tidy_and_note)
    _port, turns = SHAPES["chunks"]
    expose([dissect(flow_of(turns(200)))])
    assert 0 < len(tidied) <= len(exposure.Fact)
