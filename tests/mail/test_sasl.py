"""SASL mechanisms, against the examples in their RFCs, an independent SCRAM client, and noise."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import scramp
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.mail.accounts import Account, Accounts
from labkit.mail.nonces import Nonces
from labkit.mail.policy import MECHANISMS
from labkit.mail.sasl import Challenge, Failure, Negotiation, Reason, Success, Verifier
from tests.conftest import examples

ACCOUNTS = Accounts(
    Account(f"{name}@mail.example", name, password, name)
    for name, password in (
        ("tim", "tanstaaftanstaaf"),
        ("Kurt", "xipj3plmq"),
        ("user", "pencil"),
        ("花子", "パスワード"),
    )
)
CREDENTIALS, MALFORMED = Failure(Reason.CREDENTIALS), Failure(Reason.MALFORMED)


def outcome(mechanism: str, *responses: bytes | None) -> Challenge | Success | Failure:
    """What the last response leads to."""
    exchange = Negotiation(mechanism, Verifier(ACCOUNTS, "mail.example", Nonces()))
    steps = [exchange.step(response) for response in responses]
    assert all(isinstance(step, Challenge) for step in steps[:-1])
    return steps[-1]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"\0tim\0tanstaaftanstaaf", Success(ACCOUNTS["tim"])),  # RFC 4616 section 4
        (b"tim\0tim\0tanstaaftanstaaf", Success(ACCOUNTS["tim"])),
        (b"Ursel\0Kurt\0xipj3plmq", CREDENTIALS),  # RFC 4616 section 4; here nobody may act for another
        ("\0花子\0パスワード".encode(), Success(ACCOUNTS["花子"])),
        (b"\0tim\0wrong", CREDENTIALS),
        (b"\0tim\0", CREDENTIALS),
        (b"\0nobody\0", CREDENTIALS),
        (b"\0\0tanstaaftanstaaf", MALFORMED),
        (b"", MALFORMED),
        (b"tim\0tanstaaftanstaaf", MALFORMED),
        (b"\0tim\0a\0b", MALFORMED),
        (b"\0tim\0\xff", MALFORMED),
    ],
)
def test_plain(message: bytes, expected: Success | Failure) -> None:
    assert outcome("PLAIN", message) == expected
    assert outcome("PLAIN", None, message) == expected
    assert outcome("PLAIN", None) == Challenge(b"")


def test_login() -> None:
    assert outcome("LOGIN", None) == Challenge(b"Username:")
    assert outcome("LOGIN", None, b"tim") == Challenge(b"Password:")
    assert outcome("LOGIN", None, b"tim", b"tanstaaftanstaaf") == Success(ACCOUNTS["tim"])
    assert outcome("LOGIN", b"tim", b"tanstaaftanstaaf") == Success(ACCOUNTS["tim"])
    assert outcome("LOGIN", None, b"tim", b"") == CREDENTIALS
    assert outcome("LOGIN", None, b"", b"") == CREDENTIALS
    assert outcome("LOGIN", None, b"\xff", b"x") == MALFORMED


class Given(Nonces):
    """An RFC's example has nonces of its own."""

    def __init__(self, *numbers: int, nonce: str = "") -> None:
        self._numbers = iter(numbers)
        self._nonce = nonce

    def number(self) -> int:
        return next(self._numbers)

    def nonce(self) -> str:
        return self._nonce


def test_cram_md5_example_of_rfc_2195() -> None:
    exchange = Negotiation("CRAM-MD5", Verifier(ACCOUNTS, "postoffice.reston.mci.net", Given(1896, 697170952)))
    assert exchange.step(None) == Challenge(b"<1896.697170952@postoffice.reston.mci.net>")
    assert exchange.step(b"tim b913a602c7eda7a495b4e6e7334d3890") == Success(ACCOUNTS["tim"])


def test_cram_md5_challenges_differ_and_keep_their_length() -> None:
    challenges = [outcome("CRAM-MD5", None) for _ in range(50)]
    data = {challenge.data for challenge in challenges if isinstance(challenge, Challenge)}
    assert len(data) == 50
    assert all(re.fullmatch(rb"<\d{10}\.\d{10}@mail\.example>", each) for each in data)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"tim " + b"0" * 32, CREDENTIALS),
        (b"nobody " + b"0" * 32, CREDENTIALS),
        (b"tim " + b"0" * 31, MALFORMED),
        (b"tim " + b"g" * 32, MALFORMED),
        (b"0" * 32, MALFORMED),
        (b"\xff " + b"0" * 32, MALFORMED),
        (b"", MALFORMED),
    ],
)
def test_cram_md5_responses_that_fail(response: bytes, expected: Failure) -> None:
    assert outcome("CRAM-MD5", None, response) == expected


def test_cram_md5_has_no_initial_response() -> None:
    assert outcome("CRAM-MD5", b"") == Failure(Reason.SERVER_FIRST)


def test_scram_example_of_rfc_7677(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accounts, "salt", lambda *_: b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81")
    nonces = Given(nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    accounts = Accounts([ACCOUNTS["user"]])
    exchange = Negotiation("SCRAM-SHA-256", Verifier(accounts, "mail.example", nonces))
    nonce = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert exchange.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO") == Challenge(
        nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final = b"c=biws," + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert exchange.step(final) == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert exchange.step(b"") == Success(ACCOUNTS["user"])


def scram(name: str, password: str, last: bytes | None = b"") -> Challenge | Success | Failure:
    """An exchange with a SCRAM client."""
    client = scramp.ScramClient(["SCRAM-SHA-256"], name, password)
    exchange = Negotiation("SCRAM-SHA-256", Verifier(ACCOUNTS, "mail.example", Nonces()))
    assert exchange.step(None) == Challenge(b"")
    first: Any = exchange.step(client.get_client_first().encode())
    client.set_server_first(first.data.decode())
    final: Any = exchange.step(client.get_client_final().encode())
    if isinstance(final, Failure):
        return final
    client.set_server_final(final.data.decode())
    return exchange.step(last)


@pytest.mark.parametrize(
    ("authzid", "expected"), [("tim", Success(ACCOUNTS["tim"])), ("user", CREDENTIALS), ("tim=2C", CREDENTIALS)]
)
def test_scram_with_an_authzid(authzid: str, expected: object) -> None:
    """RFC 5802 section 5.1: mutt sends its own name as authzid; to act as somebody else takes a right nobody has here."""
    client = scramp.ScramClient(["SCRAM-SHA-256"], "tim", "tanstaaftanstaaf")
    bare = client.get_client_first().removeprefix("n,,")
    exchange = Negotiation("SCRAM-SHA-256", Verifier(ACCOUNTS, "mail.example", Nonces()))
    first: Any = exchange.step(f"n,a={authzid},{bare}".encode())
    client.set_server_first(first.data.decode())
    header = f"n,a={authzid},".encode()
    client.gs2_header = SimpleNamespace(make_cbind_input=lambda _binding: header)
    final: Any = exchange.step(client.get_client_final().encode())
    client.set_server_final(final.data.decode())
    assert exchange.step(b"") == expected


def test_scram() -> None:
    assert scram("tim", "tanstaaftanstaaf") == Success(ACCOUNTS["tim"])
    assert scram("花子", "パスワード") == Success(ACCOUNTS["花子"])
    assert scram("tim", "wrong") == CREDENTIALS
    assert scram("nobody", "wrong") == CREDENTIALS
    assert scram("nobody", ACCOUNTS.secret("nobody")) == CREDENTIALS
    assert scram("tim", "tanstaaftanstaaf", b"more") == MALFORMED


@pytest.mark.parametrize(
    ("final", "expected"),
    [
        (b"c=biws,r=abcdef,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", CREDENTIALS),  # said to another challenge
        (b"c=biws,r=abcdef,x=more,p=AAAA", CREDENTIALS),
        (b"c=eSws,r=abc%hv,p=AAAA", CREDENTIALS),  # another header than the first message had
        (b"c=biws,r=abc%hv,p=AAAA", CREDENTIALS),
        (b"c=biws,r=abcdef,p=?", MALFORMED),
        (b"c=biws,r=abcdef", MALFORMED),
        (b"r=abcdef,c=biws,p=AAAA", MALFORMED),
        (b"", MALFORMED),
        (b"\xff", MALFORMED),
    ],
)
def test_a_scram_login_that_is_well_formed_and_wrong_is_a_failed_one(final: bytes, expected: object) -> None:
    exchange = Negotiation("SCRAM-SHA-256", Verifier(ACCOUNTS, "mail.example", Given(nonce="%hv")))
    assert isinstance(exchange.step(b"n,,n=tim,r=abc"), Challenge)
    assert exchange.step(final) == expected


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n,,n=tim",
        b"p=tls-unique,,n=tim,r=abc",
        b"n,a=,n=tim,r=abc",
        b"n,b=Kurt,n=tim,r=abc",
        b"n,,n=t=im,r=abc",
        b"n,,n=" + b"a" * 1014 + b",r=abc",
        b"\xff",
    ],
)
def test_scram_first_messages_that_are_none(first: bytes) -> None:
    assert outcome("SCRAM-SHA-256", first) == MALFORMED


@given(
    mechanism=st.sampled_from(MECHANISMS),
    responses=st.lists(
        st.binary(max_size=40)
        | st.sampled_from([b"n,,n=tim,r=abcdef", b"c=biws,r=abcdef,p=AAAA", b"tim", b"\0tim\0x"]),
        min_size=1,
        max_size=5,
    ),
    initial=st.booleans(),
)
@settings(deadline=None, max_examples=examples(200))
def test_nothing_that_a_client_sends_raises_or_logs_in(mechanism: str, responses: list[bytes], initial: bool) -> None:
    exchange = Negotiation(mechanism, Verifier(ACCOUNTS, "mail.example", Nonces()))
    for response in responses if initial else [None, *responses]:
        step = exchange.step(response)
        assert not isinstance(step, Success)
        if isinstance(step, Failure):
            break
