"""Nobody gets in without proof: RFC 4954 (SMTP), RFC 5034 and RFC 3206 (POP3), RFC 4616 (PLAIN), inside TLS and outside."""

import hashlib
import socket
import threading

import pytest

from labkit.mail.policy import MECHANISMS
from labkit.mail.server import FAILED_LOGINS
from tests.trust.rig import PASSWORD, WITH_AUTH, Client, a_provider, b64, taro

RIGHT = b64("", "hanako", PASSWORD)
WRONG = b64("", "hanako", "wrong")

# What is said after AUTH's line (None: all of it is in that line), and the replies of SMTP and POP3. RFC 4954 sections 4
# and 6 give the codes; RFC 5034 section 4 asks for -ERR, and RFC 3206 keeps [AUTH] for credentials that are wrong.
EXCHANGES = {
    "cancelled": (["AUTH PLAIN", "*"], "501 5.7.0 ", "-ERR AUTH cancelled"),
    "cancelled at the password": (["AUTH LOGIN", b64("hanako"), "*"], "501 5.7.0 ", "-ERR AUTH cancelled"),
    "not base64": (["AUTH PLAIN", "not base64!"], "501 5.5.2 ", "-ERR That is not base64"),
    "base64 with more padding than it needs": (
        ["AUTH PLAIN", RIGHT + "=" * (4 - RIGHT.count("="))],
        "501 5.5.2 ",
        "-ERR That is not base64",
    ),
    "not base64 in the command": (["AUTH PLAIN !"], "501 5.5.2 ", "-ERR That is not base64"),
    "a line over 12,288 octets": (["AUTH PLAIN", "A" * 12_292], "500 5.5.6 ", "-ERR Line too long"),
    "an unknown mechanism": (["AUTH GSSAPI"], "504 5.5.4 ", "-ERR Mechanism not offered"),
    "a mechanism that is no word": (["AUTH \x7f"], "501 5.5.2 ", "-ERR "),
    "somebody else's name": ([f"AUTH PLAIN {b64('taro', 'hanako', PASSWORD)}"], "535 5.7.8 ", "-ERR [AUTH] "),
    "an empty password": ([f"AUTH PLAIN {b64('', 'hanako', '')}"], "535 5.7.8 ", "-ERR [AUTH] "),
    "nobody": ([f"AUTH PLAIN {b64('', 'nobody', '')}"], "535 5.7.8 ", "-ERR [AUTH] "),
    "a wrong password": ([f"AUTH PLAIN {WRONG}"], "535 5.7.8 ", "-ERR [AUTH] "),
    "a space that is none": ([f"AUTH PLAIN\u00a0{RIGHT}"], "504 5.5.4 ", "-ERR Mechanism not offered"),
    "a wide space": ([f"AUTH PLAIN\u2003{RIGHT}"], "504 5.5.4 ", "-ERR Mechanism not offered"),
    "an ideographic space": ([f"AUTH PLAIN\u3000{RIGHT}"], "504 5.5.4 ", "-ERR Mechanism not offered"),
    "one behind a space": ([f"AUTH PLAIN \u3000{RIGHT}"], "501 5.5.2 ", "-ERR That is not base64"),
    "a letter that becomes I": ([f"AUTH PLA\u0131N {RIGHT}"], "504 5.5.4 ", "-ERR Mechanism not offered"),
    "a verb with an odd letter": ([f"\u00c0UTH PLAIN {RIGHT}"], "500 5.5.1 ", "-ERR Unknown command"),
    "small letters": ([f"auth plain {RIGHT}"], "235 2.7.0 ", "+OK 0 messages"),
    "the own name twice": ([f"AUTH PLAIN {b64('hanako', 'hanako', PASSWORD)}"], "235 2.7.0 ", "+OK 0 messages"),
}


@pytest.mark.parametrize("policy", WITH_AUTH)
@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_what_an_exchange_comes_to(policy: str, protocol: str) -> None:
    with a_provider(policy) as provider:
        for lines, smtp, pop3 in EXCHANGES.values():
            with Client(provider, protocol) as client:
                if protocol == "smtp":
                    client.say("EHLO client.example")
                reply = client.say(*lines)
                assert reply.startswith(smtp if protocol == "smtp" else pop3), lines
                logged_in = reply.startswith(("235", "+OK"))
                # And it had just that effect.
                if protocol == "smtp":
                    assert client.say("MAIL FROM:<hanako@mail.example>")[:3] == ("250" if logged_in else "530"), lines
                else:
                    assert client.say("STAT").startswith("+OK") is logged_in, lines


@pytest.mark.parametrize("policy", WITH_AUTH)
def test_a_second_login_and_one_within_a_transaction(policy: str) -> None:
    """RFC 4954 section 4: after AUTH succeeded no more AUTH, and none during a mail transaction; RFC 5034 section 4."""
    with a_provider(policy) as provider, Client(provider, "smtp") as smtp, Client(provider, "pop3") as pop3:
        assert smtp.log_in().startswith("235 ")
        assert smtp.say(f"AUTH PLAIN {RIGHT}").startswith("503 5.5.1 ")
        assert smtp.say("EHLO again.example", f"AUTH PLAIN {b64('', 'taro', 'x')}").startswith("503 5.5.1 ")
        assert smtp.say("MAIL FROM:<hanako@mail.example>", f"AUTH PLAIN {RIGHT}").startswith("503 5.5.1 ")
        assert smtp.say("RCPT TO:<taro@mail.example>").startswith("250 ")
        assert pop3.log_in().startswith("+OK ")
        assert pop3.say(f"AUTH PLAIN {RIGHT}").startswith("-ERR ")
        assert pop3.say("USER taro").startswith("-ERR ")
        assert pop3.say("STAT") == "+OK 0 0"


@pytest.mark.parametrize("policy", WITH_AUTH)
def test_three_failures_end_the_session_and_nothing_takes_one_back(policy: str) -> None:
    """RFC 4954 section 4: a server may close after failures, with 421 (RFC 5321 section 3.8). No lock-out follows."""
    with a_provider(policy) as provider:
        with Client(provider, "smtp") as smtp:
            assert smtp.say("EHLO c.example", f"AUTH PLAIN {WRONG}").startswith("535 ")
            assert smtp.say("RSET", "EHLO c.example", f"AUTH PLAIN {b64('', 'taro', 'x')}").startswith("535 ")
            assert smtp.say("AUTH LOGIN", b64("hanako"), b64("x")).startswith("421 4.7.0 ")
            assert smtp.has_ended()
        with Client(provider, "pop3") as pop3:
            assert pop3.say("USER hanako", "PASS wrong").startswith("-ERR [AUTH] ")
            assert pop3.say("CAPA").startswith("+OK")
            while pop3._lines.readline() != b".\r\n":
                pass
            assert pop3.say(f"AUTH PLAIN {WRONG}").startswith("-ERR [AUTH] ")
            assert pop3.say("AUTH LOGIN", b64("hanako"), b64("x")).startswith("-ERR [AUTH] ")
            assert pop3.has_ended()
        for protocol in ("smtp", "pop3"):
            with Client(provider, protocol) as client:
                assert client.log_in().startswith(("235 ", "+OK "))


@pytest.mark.parametrize("policy", WITH_AUTH)
@pytest.mark.parametrize(
    "given_up", [["AUTH SCRAM-SHA-256", "*"], ["AUTH LOGIN", b64("hanako"), "*"], ["AUTH PLAIN", "!"]]
)
def test_an_exchange_that_is_given_up_counts_as_a_failure(policy: str, given_up: list[str]) -> None:
    with a_provider(policy) as provider:
        with Client(provider, "smtp") as smtp:
            assert smtp.say("EHLO c.example", *given_up, *given_up).startswith("501 5.")
            assert smtp.say(*given_up) == "421 4.7.0 Too many failed logins"
            assert smtp.has_ended()
        with Client(provider, "pop3") as pop3:
            pop3.say(*given_up, *given_up, *given_up)
            assert pop3.has_ended()


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_no_exchange_keeps_others_waiting(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key derivation is slow on purpose (RFC 5802 section 2.2): none is left to do when strangers begin exchanges."""
    first = b64("n,,n=hanako,r=abc")
    with a_provider("smtp-auth") as provider, Client(provider, protocol) as client, Client(provider, protocol) as other:
        derived: list[object] = []
        monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *_: derived.append(0) or bytes(32))
        begun = f"AUTH SCRAM-SHA-256 {first}\r\n*\r\n"
        client.send((("EHLO c\r\n" if protocol == "smtp" else "") + begun * 100).encode())
        replies = []
        while reply := client.reply():
            replies.append(reply)
        assert sum(reply.startswith(("334 ", "+ ")) for reply in replies) == FAILED_LOGINS
        assert other.say("NOOP" if protocol == "smtp" else "USER taro").startswith(("250", "+OK"))
        assert derived == []


CLEARTEXT_LOGINS = [
    [f"AUTH PLAIN {RIGHT}"],
    ["AUTH PLAIN", RIGHT],
    [f"auth login {b64('hanako')}", b64(PASSWORD)],
    ["AUTH CRAM-MD5"],
    ["AUTH SCRAM-SHA-256"],
]


def test_no_login_outside_tls_where_tls_is_asked_for() -> None:
    """RFC 4954 section 4 (538) and section 6 (530), RFC 2595 section 2.1, RFC 8314 section 3.3."""
    with a_provider("starttls") as provider:
        with Client(provider, "smtp", tls=False) as smtp:
            assert "AUTH" not in smtp.say("EHLO client.example")
            for lines in CLEARTEXT_LOGINS:
                assert smtp.say(lines[0]).startswith("538 5.7.11 ")
                assert smtp.say("MAIL FROM:<hanako@mail.example>").startswith("530 5.7.0 ")
            assert smtp.say("STARTTLS").startswith("220 ")
            smtp.start_tls()
            assert smtp.say("EHLO client.example").count("AUTH " + " ".join(MECHANISMS)) == 1
            assert smtp.say("MAIL FROM:<hanako@mail.example>").startswith("530 5.7.0 ")
            assert smtp.log_in().startswith("235 ")  # what was refused unseen was not counted as a failure
        with Client(provider, "pop3", tls=False) as pop3:
            assert not {b"USER", b"SASL " + " ".join(MECHANISMS).encode()} & set(pop3.ask("CAPA").split(b"\r\n"))
            for lines in [*CLEARTEXT_LOGINS, ["USER hanako"], [f"PASS {PASSWORD}"], ["APOP hanako " + "0" * 32]]:
                assert pop3.say(lines[0]) == "-ERR Encryption required: use STLS first"
            assert pop3.say("STLS").startswith("+OK ")
            pop3.start_tls()
            assert pop3.say(f"PASS {PASSWORD}").startswith("-ERR ")
            assert pop3.log_in().startswith("+OK ")


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_a_server_with_tls_from_the_first_byte_says_nothing_in_the_clear(protocol: str) -> None:
    """RFC 8314 section 3: what is not TLS gets no answer of the mail protocol, and leads to nothing."""
    with a_provider("ssl") as provider:
        port = provider.smtp_port if protocol == "smtp" else provider.pop3_port
        with socket.create_connection((provider.host, port), 10) as sock:
            sock.sendall(b"EHLO c\r\nUSER hanako\r\nPASS " + PASSWORD.encode() + f"\r\nAUTH PLAIN {RIGHT}\r\n".encode())
            said = b""
            try:
                while more := sock.recv(1000):
                    said += more
            except ConnectionResetError:
                pass
        assert said[:1] in (b"", b"\x15")  # at most a TLS alert (RFC 8446 section 5.1)
        assert len(said) <= 7


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_who_fails_to_log_in_holds_nobody_up(protocol: str) -> None:
    """Others are served while some guess as fast as they can, and while one leaves its exchange half done."""
    with a_provider("smtp-auth") as provider, Client(provider, protocol) as half_done:
        half_done.say(*(["EHLO c.example"] if protocol == "smtp" else []), "AUTH LOGIN")
        enough = threading.Event()
        guesses = []

        def guess() -> None:
            while not enough.is_set():
                with Client(provider, protocol) as client:
                    guesses.extend(client.log_in("hanako", "guess") for _ in range(3))

        guessers = [threading.Thread(target=guess) for _ in range(4)]
        for thread in guessers:
            thread.start()
        try:
            for number in range(10):
                with Client(provider, "smtp") as smtp, Client(provider, "pop3") as pop3:
                    assert smtp.log_in().startswith("235 ")
                    assert smtp.deliver(b"%d\r\n" % number).startswith("250 ")
                    assert pop3.log_in("taro", "パスワード").startswith(f"+OK {number + 1} message")
        finally:
            enough.set()
            for thread in guessers:
                thread.join()
        assert len(taro(provider)) == 10
        assert guesses
        assert not [guess for guess in guesses if guess.startswith(("235", "+OK"))]
