"""Somebody else behind the same address."""

import errno
import socket
from typing import Any

import pytest

import labkit
from labkit.attack import shared_address
from labkit.attack.shared_address import ELSEWHERE
from labkit.errors import LabError
from labkit.mail.sample import sample_message
from tests.conftest import on_loopback


def test_an_open_window_is_open_to_everybody_behind_the_address() -> None:
    with labkit.Provider("pop-before-smtp", repeatable=True) as provider:
        assert not shared_address(provider).accepted
        provider.client("taro").check()
        with provider.capture() as capture:
            result = shared_address(provider)
        assert result.accepted
        assert result.sender == "hanako@mail.example"
        assert [command.verb for flow in capture.flows for command in flow.commands] == [
            "EHLO", "MAIL", "RCPT", "DATA", "QUIT",
        ]  # fmt: skip
        assert [message.content for message in provider.maildrops["taro"].messages()] == [sample_message().as_bytes()]
        provider.clock.advance(minutes=30)
        late = shared_address(provider)
    assert not late.accepted
    assert late.answer.startswith("530 5.7.0")


def test_another_address_is_another_client() -> None:
    try:
        socket.create_server((ELSEWHERE, 0)).close()
    except OSError:
        pytest.skip("this system has one loopback address")
    with labkit.Provider("pop-before-smtp", repeatable=True) as provider:
        provider.client("taro").check()
        assert not shared_address(provider, same_address=False).accepted
        assert shared_address(provider).accepted


@on_loopback
def test_a_system_with_one_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    with labkit.Provider("pop-before-smtp") as provider:
        monkeypatch.setattr(socket.socket, "bind", refuse)
        with pytest.raises(LabError, match="only one loopback address"):
            shared_address(provider, same_address=False)


@pytest.mark.parametrize(("policy", "accepted"), [("plaintext", True), ("smtp-auth", False)])
def test_other_policies(policy: str, accepted: bool) -> None:
    with labkit.Provider(policy) as provider:
        assert shared_address(provider).accepted is accepted


def test_with_tls_it_is_another_matter() -> None:
    with labkit.Provider("ssl") as provider, pytest.raises(LabError, match="TLS"):
        shared_address(provider)
