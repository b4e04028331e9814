"""A mail service on its wire: it listens on loopback alone, stops in time, leaves nothing, and a restart forgets."""

import gc
import os
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from email.policy import SMTP
from pathlib import Path
from typing import Any

import psutil
import pytest

import labkit
from labkit.errors import BadSetting, LabError, LoginRefused, MessageRefused, PortTaken, UnknownPolicy
from labkit.mail.policy import POLICIES
from labkit.provider import Provider
from tests.conftest import on_loopback, returns

LETTER = labkit.sample_message()
CONTENT = LETTER.as_bytes(policy=SMTP)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_letter_goes_from_hanako_to_taro(policy: str) -> None:
    with Provider(policy) as provider:
        provider.client("hanako").send(LETTER)
        assert provider.client("taro").receive() == [CONTENT]
        assert [message.content for message in provider.maildrops["taro"].messages()] == [CONTENT]
        assert provider.outgoing == []


def test_mail_for_elsewhere_is_kept_and_goes_nowhere() -> None:
    with Provider() as provider:
        provider.client("hanako").send(LETTER, recipients=["friend@other.example", "taro@mail.example"])
        assert [(mail.recipients, mail.content) for mail in provider.outgoing] == [(("friend@other.example",), CONTENT)]
        assert len(provider.maildrops["taro"].messages()) == 1


@on_loopback
def test_it_listens_on_loopback_and_nowhere_else() -> None:
    with Provider("ssl") as provider:
        ports = {provider.smtp_port, provider.pop3_port}
        listening = [c.laddr for c in psutil.Process().net_connections() if c.status == "LISTEN"]
        assert {address.ip for address in listening if address.port in ports} == {"127.0.0.1"}
        assert ports <= {address.port for address in listening}


def test_passwords_are_random_for_each_provider_and_fixed_for_a_lesson() -> None:
    assert Provider().accounts["hanako"].password != Provider().accounts["hanako"].password
    assert Provider(repeatable=True).accounts["hanako"].password == "sakura"


@pytest.mark.parametrize("switch", [{"outgoing_requires_authentication": False}, {"password": "wrong"}])
def test_smtp_auth_refuses_who_does_not_prove_it(switch: dict[str, object]) -> None:
    with (
        Provider("smtp-auth") as provider,
        pytest.raises((LoginRefused, MessageRefused), match=r"530 5\.7\.0|535 5\.7\.8"),
    ):
        provider.client("hanako", **switch).send(LETTER)


def test_the_pop_window_opens_at_a_login_and_closes_on_the_second() -> None:
    with Provider(replace(POLICIES["pop-before-smtp"], pop_window=timedelta(minutes=15))) as provider:
        forgetful = provider.client("hanako", check_mail_first=False)
        with pytest.raises(MessageRefused, match=r"530 5\.7\.0"):
            forgetful.send(LETTER)
        with pytest.raises(LoginRefused):
            provider.client("hanako", password="wrong").check()
        with pytest.raises(MessageRefused, match=r"530 5\.7\.0"):
            forgetful.send(LETTER)
        forgetful.check()
        provider.clock.advance(minutes=15, seconds=-1)
        forgetful.send(LETTER)
        provider.clock.advance(seconds=1)
        with pytest.raises(MessageRefused, match=r"530 5\.7\.0"):
            forgetful.send(LETTER)


def test_a_restart_forgets_the_window_and_keeps_the_mail() -> None:
    provider = Provider("pop-before-smtp")
    with provider:
        provider.client("hanako").send(LETTER)
    with provider:
        with pytest.raises(MessageRefused):
            provider.client("hanako", check_mail_first=False).send(LETTER)
        assert provider.client("taro").receive() == [CONTENT]


def test_mail_in_a_maildir_is_there_after_a_restart(tmp_path: Path) -> None:
    with Provider(maildir=tmp_path) as provider:
        provider.client("hanako").send(LETTER)
        first = provider.maildrops["taro"].messages()
    with Provider(maildir=tmp_path) as provider:
        assert provider.maildrops["taro"].messages() == first


@contextmanager
def idle_clients(provider: Provider) -> Iterator[None]:
    """A client that says nothing, one in mid-handshake, and, where there is TLS from the first byte, one inside it."""
    with ExitStack() as open_until_the_end:
        for port in (provider.smtp_port, provider.pop3_port):
            idle = open_until_the_end.enter_context(socket.create_connection((provider.host, port), timeout=10))
            if provider.policy.security is not labkit.Security.SSL:
                assert idle.recv(3) in (b"220", b"+OK")
                continue
            idle.sendall(b"\x16\x03\x01\x02\x00")
            context = ssl.create_default_context(cadata=provider.ca_pem)
            raw = socket.create_connection((provider.host, port), timeout=10)
            open_until_the_end.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
        yield


@pytest.mark.parametrize("policy", ["plaintext", "starttls", "ssl"])
def test_it_stops_whatever_clients_do(policy: str) -> None:
    provider = Provider(policy)
    provider.start()
    with idle_clients(provider):
        returns(provider.stop)


def test_starting_and_stopping_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Provider("ssl") as provider:
        assert provider.ca_file is not None
    process = psutil.Process()
    gc.collect()  # what earlier tests have left is not counted
    threads, files = threading.active_count(), process.num_fds() if hasattr(process, "num_fds") else 0
    for cycle in range(200):
        with Provider(("plaintext", "ssl")[cycle % 2], keylog=cycle % 2 == 1):
            pass
    assert threading.active_count() <= threads
    assert (process.num_fds() if hasattr(process, "num_fds") else 0) <= files
    assert list(tmp_path.iterdir()) == []


def test_start_and_stop_may_be_repeated() -> None:
    provider = Provider()
    provider.start()
    provider.start()
    port = provider.smtp_port
    assert smtplib.SMTP(provider.host, port, local_hostname="client.example").quit()[0] == 221
    provider.stop()
    provider.stop()
    assert repr(provider) == "<Provider plaintext, stopped>"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_authority_is_in_a_private_folder_and_vanishes() -> None:
    with Provider("ssl", keylog=True) as provider:
        provider.client("taro").receive()
        assert provider.ca_file is not None
        folder = provider.ca_file.parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.name for path in folder.iterdir()] == ["ca.pem"]
        assert "PRIVATE KEY" not in provider.ca_file.read_text()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("mistake", "error", "words"),
    [
        (lambda: Provider("pop-after-smtp"), UnknownPolicy, "Choose one of: 'plaintext', 'smtp-auth'"),
        (lambda: Provider(certificate="golden"), BadSetting, "choose one of good, wrong-name"),
        (lambda: Provider().smtp_port, BadSetting, "does not run"),
        (lambda: Provider().settings("hanako"), BadSetting, "does not run"),
        (lambda: Provider().settings("Hanna"), BadSetting, "no account 'Hanna'. It has: 'hanako', 'taro'"),
    ],
)
def test_a_mistake_gets_one_sentence(mistake: object, error: type[LabError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        mistake()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


@on_loopback
def test_a_taken_port_is_said_and_leaves_nothing_running() -> None:
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortTaken, match="taken by another program"):
        Provider(smtp_port=other.getsockname()[1]).start()
    assert threading.active_count() == threads


def test_an_unknown_switch_is_said() -> None:
    with Provider() as provider:
        with pytest.raises(BadSetting, match=r"no setting 'colour'\. It has: smtp_port, pop3_port, server"):
            provider.client("hanako", colour="red")
        with pytest.raises(BadSetting, match="no setting 'Timeout'"):
            provider.settings("hanako", Timeout=5)


@pytest.mark.parametrize(
    ("wrong", "sentence"), [({"timeout": "5"}, "must be a number of seconds"), ({"server": 5}, "server is text")]
)
def test_a_setting_of_the_wrong_kind_is_told_why(wrong: dict[str, Any], sentence: str) -> None:
    with Provider() as provider, pytest.raises(BadSetting, match=sentence):
        provider.settings("hanako", **wrong)


def test_an_account_that_is_no_name() -> None:
    with Provider() as provider, pytest.raises(BadSetting, match=r"no account \[\]"):
        provider.settings([])  # type: ignore[arg-type]


def test_a_capture_that_is_looked_at_before_it_starts_is_not_empty_for_ever() -> None:
    with Provider() as provider:
        capture = provider.capture()
        assert repr(capture)
        assert capture.exposure["subject"].verdict == "not sent"
        with capture:
            provider.client("hanako").send(LETTER)
    assert capture.exposure["subject"].verdict == "readable"
    assert "220 mail.example" in repr(capture)


@pytest.mark.parametrize(
    ("accounts", "sentence"),
    [
        (["hanako"], "^'hanako' does not belong here: give accounts made with labkit.Account"),
        (5, "^5 does not belong here: give accounts as a list"),
    ],
)
def test_accounts_that_are_none(accounts: Any, sentence: str) -> None:
    with pytest.raises(BadSetting, match=sentence):
        Provider(accounts=accounts)


def test_a_port_is_a_number() -> None:
    with pytest.raises(LabError, match="'25' is not a port"):
        Provider(smtp_port="25").start()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decode_as", "sentence"),
    [
        ({25: "imap"}, "^Port 25 cannot be decoded as 'imap'"),
        ({"25": "smtp"}, "^Port '25' cannot be decoded as 'smtp'"),
        ("smtp", "^'smtp' does not belong here: give ports with what they speak"),
    ],
)
def test_what_a_port_cannot_be_decoded_as(decode_as: Any, sentence: str, tmp_path: Path) -> None:
    with Provider() as provider, provider.capture() as capture:
        provider.client("hanako").send(LETTER)
    with pytest.raises(BadSetting, match=sentence):
        labkit.Capture.load(capture.save(tmp_path / "a.pcap"), decode_as=decode_as)
    with pytest.raises(BadSetting, match=r"^The sides of a flow are \"client\" and \"server\", not 'klient'"):
        capture.flows[0].spans("klient")
