"""The mail service: where mail goes, and the window of POP before SMTP."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from labkit.errors import LabError, UnknownPolicy
from labkit.mail.accounts import Account, BadAccount
from labkit.mail.clock import Clock
from labkit.mail.policy import POLICIES, LoginFormat
from labkit.mail.service import MailService, Outgoing
from tests.mail.conftest import ACCOUNTS, a_service


def test_accounts_take_the_login_format_of_the_policy() -> None:
    policy = replace(POLICIES["smtp-auth"], login_format=LoginFormat.SEPARATE)
    for service in (MailService(policy), a_service(policy), MailService(policy, {a.local_part: a for a in ACCOUNTS})):
        assert [account.login for account in service.accounts.values()] == ["m1001-hy", "m1002-ts"]
        assert set(service.maildrops) == {"hanako", "taro"}
    assert service.accounts.check_password("m1001-hy", "correct horse") == service.accounts["hanako"]


def test_mistakes_are_told() -> None:
    with pytest.raises(UnknownPolicy):
        MailService("open")
    with pytest.raises(BadAccount):
        MailService("ssl", [ACCOUNTS[0], ACCOUNTS[0]])


@pytest.mark.parametrize(
    ("recipient", "accepted"),
    [
        ("hanako@mail.example", True),
        ("Hanako@MAIL.example", True),
        ("nobody@mail.example", False),
        ("postmaster@mail.example", True),
        ("Postmaster", True),
        ("postmaster@elsewhere.example", True),
        ("anybody@elsewhere.example", True),
    ],
)
def test_which_recipients_are_accepted(recipient: str, accepted: bool) -> None:
    assert a_service().accepts(recipient) is accepted


def test_deliver_sorts_ours_from_elsewhere() -> None:
    service = a_service()
    everybody = [
        "hanako@mail.example",
        "HANAKO@mail.example",
        "x@a.example",
        "taro@mail.example",
        "postmaster@b.example",
    ]
    service.deliver("taro@mail.example", everybody, b"one\ntwo")
    for drop in service.maildrops.values():
        assert [message.content for message in drop.messages()] == [b"one\r\ntwo\r\n"]
    assert service.outgoing == [
        Outgoing("taro@mail.example", ("x@a.example", "postmaster@b.example"), b"one\r\ntwo\r\n")
    ]


def test_deliver_is_all_or_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = a_service(maildir=tmp_path)
    service.deliver("", ["hanako@mail.example"], b"before\r\n")

    def full(content: bytes) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.maildrops["taro"], "append", full)
    with pytest.raises(OSError, match="No space left"):
        service.deliver("", ["hanako@mail.example", "taro@mail.example", "x@a.example"], b"after\r\n")
    assert [message.content for message in service.maildrops["hanako"].messages()] == [b"before\r\n"]
    assert service.outgoing == []


def test_a_maildir_outlives_the_service(tmp_path: Path) -> None:
    slash = Account("a/b@mail.example", "A B", "secret", "ab")
    for _ in range(2):
        service = MailService("plaintext", [slash], maildir=tmp_path / "mail")
        service.deliver("", [slash.address], b"x\r\n")
    assert len(service.maildrops["a/b"].messages()) == 2
    assert [path.name for path in (tmp_path / "mail").iterdir()] == ["a%2Fb"]


def test_a_folder_that_cannot_hold_mail_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LabError) as refused:
        a_service(maildir=tmp_path / "file")
    assert str(tmp_path / "file") in str(refused.value)


def test_the_window_of_pop_before_smtp() -> None:
    clock = Clock()
    service = a_service(replace(POLICIES["pop-before-smtp"], pop_window=timedelta(minutes=15)), clock=clock)
    assert not service.may_send("192.0.2.1")
    service.popped("192.0.2.1")
    clock.advance(minutes=14)
    assert service.may_send("192.0.2.1")
    assert not service.may_send("192.0.2.2")
    service.popped("192.0.2.1")  # it counts from the last login
    clock.advance(minutes=14)
    assert service.may_send("192.0.2.1")
    clock.advance(minutes=1)
    assert not service.may_send("192.0.2.1")
    assert not a_service(service.policy, clock=clock).may_send("192.0.2.1")


@pytest.mark.parametrize(
    ("popped", "sends"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "::ffff:c000:201"),
        ("fe80::1%eth0", "fe80:0::1%lo"),
        ("2001:DB8::1", "2001:db8:0:0::1"),
        ("client in memory", "client in memory"),
    ],
)
def test_one_client_has_one_address(popped: str, sends: str) -> None:
    service = a_service("pop-before-smtp")
    service.popped(popped)
    assert service.may_send(sends)
    assert not service.may_send("192.0.2.77")


@pytest.mark.parametrize("policy", ["plaintext", "smtp-auth", "starttls", "ssl"])
def test_without_a_window_any_address_may_send(policy: str) -> None:
    assert a_service(policy).may_send("192.0.2.1")
