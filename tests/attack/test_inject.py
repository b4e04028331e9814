"""A command injected before the handshake: thrown away by the lab's servers, carried out by a careless one."""

import asyncio

import pytest

import labkit
from labkit.attack import inject
from labkit.errors import BadSetting, LabError
from labkit.mail.certificates import authority
from labkit.wire.network import Network


@pytest.mark.parametrize("command", ["NOOP", "MAIL FROM:<attacker@mail.example>", "RSET\r\nNOOP", "EHLO attacker"])
def test_the_labs_smtp_server_throws_it_away(command: str) -> None:
    with labkit.Provider("starttls") as provider:
        result = inject(provider, command)
    assert result.upgraded
    assert not result.executed
    assert result.inside == ("250-mail.example", "221 2.0.0 Bye")


def test_the_labs_pop3_server_does_not_start_tls() -> None:
    with labkit.Provider("starttls") as provider:
        result = inject(provider, "USER hanako", protocol="pop3")
    assert not result.upgraded
    assert not result.executed
    assert result.answer.startswith("-ERR")


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_a_careless_server_is_found_out(network: Network, protocol: str) -> None:
    context = authority().server_context()

    async def careless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keeps what it has in its buffer when TLS begins, as many servers did."""
        good, bye = (b"220 ", b"221 ") if protocol == "smtp" else (b"+OK ", b"+OK ")
        writer.write(good + b"hello\r\n")
        while (line := (await reader.readline()).strip()) != b"QUIT":
            writer.write((good if b"TLS" in line else good.replace(b"220", b"250")) + line + b"\r\n")
            if line in (b"STARTTLS", b"STLS"):
                await writer.start_tls(context)
        writer.write(bye + b"bye\r\n")
        writer.close()

    def served() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), careless)

    port = network.listen(served).port
    provider = labkit.Provider("starttls")
    provider._ports = port, port  # the careless server is in its place
    result = inject(provider, "NOOP", protocol=protocol)
    assert result.upgraded
    assert result.executed
    assert "NOOP" in result.inside[0]
    assert "speak for the client" in result.text()


def test_what_cannot_be_injected() -> None:
    with labkit.Provider("ssl") as provider, pytest.raises(LabError, match="starttls"):
        inject(provider)
    with labkit.Provider("starttls") as provider, pytest.raises(BadSetting, match="imap"):
        inject(provider, protocol="imap")
    with pytest.raises(BadSetting, match="start"):
        inject(provider)
