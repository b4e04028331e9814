"""What became of what a client said: the replies tell it."""

import pytest

from labkit.decode.dissection import dissect
from labkit.decode.outcomes import Outcome
from labkit.wire.flows import Gap, Side
from tests.decode.conftest import C, S, flow_of

Turns = list[tuple[Side, bytes]]


def outcomes_of(turns: Turns, port: int = 25) -> dict[str, Outcome]:
    """The outcome of each line of the client."""
    conversation = dissect(flow_of(turns, port=port))
    return {line.text: conversation.outcome(C, line.start) for line in conversation.lines if line.side is C}


def test_a_transaction_has_the_fate_of_its_message() -> None:
    said = outcomes_of(
        [
            (S, b"220 x\r\n"),
            (C, b"EHLO c\r\n"),
            (S, b"250 x\r\n"),
            (C, b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n"),
            (S, b"250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n"),
            (C, b"one\r\n.\r\n"),
            (S, b"250 ok\r\n"),
            (C, b"MAIL FROM:<d@x>\r\nRCPT TO:<e@x>\r\nBDAT 5 LAST\r\ntwo\r\n"),
            (S, b"250 ok\r\n250 ok\r\n554 no\r\n"),
            (C, b"MAIL FROM:<f@x>\r\nRSET\r\nQUIT\r\n"),
            (S, b"250 ok\r\n250 ok\r\n221 bye\r\n"),
        ]
    )
    assert said["EHLO c"] is said["QUIT"] is Outcome.ACCEPTED  # they belong to no transaction
    assert said["MAIL FROM:<a@x>"] is said["RCPT TO:<c@x>"] is said["one"] is Outcome.ACCEPTED
    assert said["RCPT TO:<b@x>"] is Outcome.REFUSED
    assert said["MAIL FROM:<d@x>"] is said["two"] is Outcome.HANDED_OVER
    assert said["MAIL FROM:<f@x>"] is Outcome.BEGUN


@pytest.mark.parametrize(
    ("reply", "outcome"), [(b"+OK\r\n", Outcome.ACCEPTED), (b"-ERR no\r\n", Outcome.REFUSED), (b"", Outcome.BEGUN)]
)
def test_a_login_has_the_fate_that_its_proof_has(reply: bytes, outcome: Outcome) -> None:
    said = outcomes_of(
        [
            (S, b"+OK <1@x>\r\n"),
            (C, b"USER a\r\n"),
            (S, b"+OK\r\n"),
            (C, b"PASS b\r\n"),
            (S, reply),
        ],
        port=110,
    )
    assert said == {"USER a": outcome, "PASS b": outcome}


def test_an_exchange_of_several_steps_is_one_login() -> None:
    said = outcomes_of(
        [
            (S, b"220 x\r\n"),
            (C, b"AUTH LOGIN\r\n"),
            (S, b"334 VXNlcm5hbWU6\r\n"),
            (C, b"YQ==\r\n"),
            (S, b"334 UGFzc3dvcmQ6\r\n"),
            (C, b"Yg==\r\n"),
            (S, b"535 no\r\n"),
            (C, b"AUTH LOGIN YQ==\r\n"),
            (S, b"334 UGFzc3dvcmQ6\r\n"),
            (C, b"Yw==\r\n"),
            (S, b"235 yes\r\n"),
        ]
    )
    assert said["AUTH LOGIN"] is said["YQ=="] is said["Yg=="] is Outcome.REFUSED
    assert said["AUTH LOGIN YQ=="] is said["Yw=="] is Outcome.ACCEPTED


def test_after_a_gap_nobody_knows() -> None:
    turns: Turns = [(S, b"+OK x\r\n"), (C, b"USER a\r\nPASS b\r\n"), (S, b"+OK\r\n-ERR\r\n")]
    conversation = dissect(flow_of(turns, port=110, gaps={C: (Gap(3, 9),)}))
    assert conversation.outcome(C, 9) is Outcome.BEGUN
