"""The machine in the middle, with the lab's own mail program and others as its victims."""

import poplib
import smtplib
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest

import labkit
from labkit.attack import Impersonate, StripStartTls, inject, replay, shared_address
from labkit.attack.middle import Middle
from labkit.decode.exposure import Fact, Verdict
from labkit.errors import BadSetting, LabError
from labkit.mail.sample import sample_message
from tests.conftest import require, returns

LETTER = sample_message().as_bytes()
WRONG = ("wrong-name", "expired", "unknown-issuer")


def victim(provider: labkit.Provider, middle: Middle, name: str = "hanako", **overrides: object) -> labkit.MailClient:
    """A mail program that was led to the machine in the middle."""
    return provider.client(name, smtp_port=middle.smtp_port, pop3_port=middle.pop3_port, **overrides)


def verdicts(capture: labkit.Capture) -> tuple[Verdict, Verdict, Verdict]:
    return tuple(capture.findings[fact].verdict for fact in (Fact.LOGIN_NAME, Fact.PASSWORD, Fact.SUBJECT))  # type: ignore[return-value]


def test_a_client_that_takes_what_is_offered_gives_everything_away() -> None:
    with labkit.Provider("starttls", repeatable=True) as provider, StripStartTls(provider) as middle:
        with provider.capture() as far, middle.capture() as near:
            with smtplib.SMTP(provider.host, middle.smtp_port) as smtp:
                smtp.ehlo()
                assert not smtp.has_extn("starttls")
                smtp.login("hanako", "sakura")
                smtp.send_message(sample_message())
            pop3 = poplib.POP3(provider.host, middle.pop3_port, 10)
            assert "STLS" not in pop3.capa()
            pop3.user("taro")
            pop3.pass_("fuji3776")
            received = b"\r\n".join([*pop3.retr(1)[1], b""])
            pop3.quit()
        assert [message.content for message in provider.maildrops["taro"].messages()] == [LETTER]
    assert received == LETTER
    assert verdicts(near) == (Verdict.READABLE,) * 3
    assert near.findings[Fact.PASSWORD].value == "fuji3776"
    assert {flow.protocol.name for flow in near.flows} == {"smtp", "pop3"}
    assert verdicts(far) == (Verdict.HIDDEN,) * 3  # the provider's leg is TLS: the provider is content
    assert [flow.tls.started for flow in far.flows if flow.tls] == ["STARTTLS", "STLS"]


def test_a_client_that_insists_on_tls_says_nothing_secret() -> None:
    with labkit.Provider("starttls", repeatable=True) as provider, StripStartTls(provider) as middle:
        with middle.capture() as near:
            with pytest.raises(LabError, match="STARTTLS"):
                victim(provider, middle).send(sample_message())
            with pytest.raises(LabError, match="STLS"):
                victim(provider, middle).check()
        assert not provider.maildrops["taro"].messages()
    assert verdicts(near) == (Verdict.NOT_SENT,) * 3
    assert [command.verb for flow in near.flows for command in flow.commands] == ["EHLO", "QUIT", "CAPA", "QUIT"]


@pytest.mark.parametrize(("option", "code"), [("--ssl", 0), ("--ssl-reqd", 64)])
def test_curl_with_tls_if_available_and_with_tls_required(option: str, code: int) -> None:
    require("curl")
    with (
        labkit.Provider("starttls", repeatable=True) as provider,
        StripStartTls(provider) as middle,
        middle.capture() as near,
    ):
        url = f"pop3://{provider.host}:{middle.pop3_port}/"
        command = ["curl", "-s", option, url, "--user", "hanako:sakura", "--login-options", "AUTH=PLAIN"]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == code, done.stderr
    assert near.findings[Fact.PASSWORD].verdict is (Verdict.NOT_SENT if code else Verdict.ENCODED)


def test_both_ways_of_asking_for_tls_are_refused() -> None:
    with labkit.Provider("starttls") as provider, StripStartTls(provider) as middle:
        with smtplib.SMTP(provider.host, middle.smtp_port) as smtp:
            smtp.ehlo()
            assert smtp.docmd("starttls")[0] == 502
            assert smtp.noop()[0] == 250
        pop3 = poplib.POP3(provider.host, middle.pop3_port, 10)
        pop3.caps = {}
        with pytest.raises(poplib.error_proto, match="STLS is not offered"):
            pop3._shortcmd("STLS")
        pop3.quit()


def test_content_that_reads_like_a_command_is_passed_on() -> None:
    letter = b"Subject: commands\r\n\r\nSTARTTLS\r\nSTLS\r\n354 what\r\nSTARTTLS\r\n"
    with labkit.Provider("starttls", repeatable=True) as provider, StripStartTls(provider) as middle:
        with smtplib.SMTP(provider.host, middle.smtp_port) as smtp:
            smtp.login("hanako", "sakura")
            smtp.sendmail("hanako@mail.example", ["hanako@mail.example"], letter)
        pop3 = poplib.POP3(provider.host, middle.pop3_port, 10)
        pop3.user("hanako")
        pop3.pass_("sakura")
        assert b"\r\n".join([*pop3.retr(1)[1], b""]) == letter
        pop3.quit()


@pytest.mark.parametrize("certificate", WRONG)
@pytest.mark.parametrize("policy", ["ssl", "starttls"])
def test_a_client_that_checks_refuses_before_anything_secret(policy: str, certificate: str) -> None:
    with labkit.Provider(policy, repeatable=True) as provider, Impersonate(provider, certificate) as middle:
        with pytest.raises(LabError, match="certificate"):
            victim(provider, middle).send(sample_message())
        with pytest.raises(LabError, match="certificate"):
            victim(provider, middle).receive()
        assert not provider.maildrops["taro"].messages()
    assert verdicts(middle.read) == (Verdict.NOT_SENT,) * 3


@pytest.mark.parametrize("certificate", WRONG)
@pytest.mark.parametrize("policy", ["ssl", "starttls"])
def test_a_client_that_does_not_check_is_read_by_the_middle(policy: str, certificate: str) -> None:
    with (
        labkit.Provider(policy, repeatable=True) as provider,
        Impersonate(provider, certificate) as middle,
        provider.capture() as far,
        middle.capture() as near,
    ):
        victim(provider, middle, verify_certificate=False).send(sample_message())
        assert middle.read.findings[Fact.PASSWORD].value == "sakura"  # it reads while it runs
        assert victim(provider, middle, "taro", verify_certificate=False).receive() == [LETTER]
    read = middle.read
    assert read.findings[Fact.PASSWORD].value == "fuji3776"
    assert read.findings[Fact.SUBJECT].value == "Lunch on Friday?"
    assert [flow.protocol.name for flow in read.flows] == ["smtp", "pop3"]
    # Anybody else on either leg sees TLS and nothing more.
    assert verdicts(near) == verdicts(far) == (Verdict.HIDDEN,) * 3


@pytest.mark.parametrize("policy", ["ssl", "starttls"])
def test_where_nobody_came_nothing_was_read(policy: str) -> None:
    with labkit.Provider(policy, repeatable=True) as provider, Impersonate(provider) as middle:
        assert middle.read.flows == ()
    assert middle.read.flows == ()
    assert verdicts(middle.read) == (Verdict.NOT_SENT,) * 3


def test_what_was_read_is_a_capture_of_ciphertext_with_the_keys(tmp_path: Path) -> None:
    with labkit.Provider("ssl", repeatable=True) as provider, Impersonate(provider) as middle:
        victim(provider, middle, verify_certificate=False).send(sample_message())
    saved = labkit.Capture.load(middle.read.save(tmp_path / "read.pcapng"))
    assert saved.findings[Fact.PASSWORD].verdict is Verdict.HIDDEN
    (flow,) = saved.unlock().flows
    assert flow.opened is not None
    assert any(command.verb == "AUTH" for command in flow.opened.commands)


def test_output_repeats() -> None:
    def read() -> str:
        with labkit.Provider("starttls", repeatable=True) as provider, Impersonate(provider) as middle:
            victim(provider, middle, verify_certificate=False).send(sample_message())
        return middle.read.text() + middle.read.exposure.text()

    assert read() == read()


def test_what_cannot_be_attacked_in_this_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plain, secure = labkit.Provider("plaintext"), labkit.Provider("ssl")
    with pytest.raises(LabError, match="plaintext"):
        Impersonate(plain)
    with pytest.raises(LabError, match="ssl"):
        StripStartTls(secure)
    for name in ("good", "stolen"):
        with pytest.raises(BadSetting, match="unknown-issuer"):
            Impersonate(secure, name)
    with pytest.raises(BadSetting, match="start"):
        Impersonate(secure).start()  # its provider does not run
    assert list(tmp_path.iterdir()) == []
    for middle in (Impersonate(secure), StripStartTls(labkit.Provider("starttls"))):
        with pytest.raises(BadSetting, match="with"):
            _port = middle.smtp_port
    with pytest.raises(BadSetting, match="with"):
        _read = Impersonate(secure).read


@pytest.mark.parametrize("policy", ["ssl", "starttls"])
def test_it_stops_whatever_victims_do(policy: str) -> None:
    with labkit.Provider(policy) as provider, Impersonate(provider) as middle:
        idle = [socket.create_connection((provider.host, middle.smtp_port), 10) for _ in range(3)]
        idle[1].sendall(b"\x16\x03\x01")  # a handshake that does not go on
        if policy == "starttls":
            with idle[2].makefile("rb") as said:
                said.readline()
                idle[2].sendall(b"EHLO a\r\n")
                while said.readline()[3:4] == b"-":
                    pass
                idle[2].sendall(b"STARTTLS\r\n")
                assert said.readline().startswith(b"220")
        returns(middle.stop)
        middle.stop()
    for sock in idle:
        sock.close()


def test_a_provider_that_goes_first_takes_the_sessions_with_it() -> None:
    with (
        labkit.Provider("starttls") as provider,
        StripStartTls(provider) as middle,
        socket.create_connection((provider.host, middle.pop3_port), 10) as sock,
        sock.makefile("rb") as said,
    ):
        assert said.readline().startswith(b"+OK")
        provider.stop()
        assert said.read() == b""


@pytest.mark.parametrize(
    "attack",
    [StripStartTls, Impersonate, inject, shared_address, lambda name: replay(cast(labkit.Capture, None), name)],
)
def test_nobody_else_is_attacked(attack: Any) -> None:
    with pytest.raises(BadSetting, match=r"^'mail\.example' does not belong here: give a labkit\.Provider"):
        attack("mail.example")
