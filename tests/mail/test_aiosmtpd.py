"""What the lab takes from aiosmtpd: hooks work unchanged, each override closes a gap, and an upgrade would be noticed."""
# ruff: noqa: N802 (aiosmtpd finds hooks by the names of methods)

import asyncio
import base64
import inspect
import logging
import smtplib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import aiosmtpd.handlers
import pytest
from aiosmtpd.smtp import MISSING, SMTP, Envelope, Session

import labkit
from labkit.errors import BadSetting
from labkit.mail.certificates import authority
from labkit.mail.smtp import COMMANDS, SmtpMachine, check_handler
from labkit.wire.network import Network
from tests.mail.conftest import InMemory, Memory, Talk, a_service

BEGUN = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<taro@mail.example>\r\n"
MAIL = "MAIL FROM:<a@b.example>"


class Sink:
    """An aiosmtpd handler that keeps what it is given, as its documentation has it."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.told.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 Message accepted for delivery"


# The gaps: the same octets to aiosmtpd as it comes and to the lab's server


def stock(*pieces: bytes, handler: object = None, **options: Any) -> list[bytes]:
    """What aiosmtpd as it comes writes, one entry a write."""
    loop = asyncio.new_event_loop()
    protocol = SMTP(handler or Sink(), hostname="x", enable_SMTPUTF8=True, loop=loop, **options)
    transport = Memory(protocol, loop)
    protocol.connection_made(transport)

    async def rest() -> None:
        for _turn in range(40):
            await asyncio.sleep(0)

    loop.run_until_complete(rest())
    for piece in pieces:
        if not transport.closed:
            protocol.data_received(piece)
            loop.run_until_complete(rest())
    transport.abort()
    loop.run_until_complete(rest())
    loop.close()
    return transport.writes


def ours(*pieces: bytes, handler: object = None, policy: str = "plaintext") -> list[bytes]:
    """What the lab's server writes."""
    with InMemory(a_service(policy), handler=handler) as session:
        session.feed(*pieces)
        return session.transport.writes


class Broken(Sink):
    async def handle_RCPT(self, *_: Any) -> str:
        raise RuntimeError("secret\r\n250 OK")


def last(writes: list[bytes]) -> str:
    return writes[-1].decode()


PLAIN = base64.b64encode(b"\0hanako\0wrong").decode()
GAPS: dict[str, tuple[list[bytes], dict[str, Any], Callable[[list[bytes]], bool]]] = {
    "push": ([b"EHLO c\r\n", b"NOOP\r\nNOOP\r\n"], {}, lambda writes: writes[-1] == b"250 2.0.0 OK\r\n" * 2),
    "handle_exception": ([BEGUN], {"handler": Broken()}, lambda writes: b"secret" not in b"".join(writes)),
    "smtp_EHLO": ([b"EHLO c\r\n"], {}, lambda writes: b"-PIPELINING\r\n250-ENHANCEDSTATUSCODES" in b"".join(writes)),
    "smtp_AUTH": (
        [b"EHLO c\r\n", *[f"auth plain {PLAIN}\r\n".encode()] * 3],
        {"policy": "smtp-auth"},
        lambda writes: last(writes).startswith("421 "),
    ),
    "smtp_MAIL": ([b"EHLO c\r\nMAIL FROM:<\r\n"], {}, lambda writes: b"\n501 " in b"".join(writes)),
    "smtp_RCPT": (
        [b"EHLO c\r\nMAIL FROM:<>\r\n", b"RCPT TO:<=?utf-8?q?taro?=@mail.example>\r\n"],
        {},
        lambda writes: last(writes).startswith("550 "),  # nobody has that name, and it is not taro
    ),
    "smtp_DATA": ([BEGUN + b"DATA\r\n", b"a" * 2000 + b"\r\n.\r\n"], {}, lambda writes: last(writes)[:3] == "250"),
    "smtp_VRFY": ([b"EHLO c\r\nVRFY <\r\n"], {}, lambda writes: b"\n252 " in b"".join(writes)),
    "smtp_HELP": ([b"EHLO c\r\nHELP\r\n"], {}, lambda writes: b"\n214 " in b"".join(writes)),
}


@pytest.mark.parametrize("name", GAPS)
def test_an_override_closes_a_gap(name: str) -> None:
    pieces, options, closed = GAPS[name]
    with_logins = {"auth_require_tls": False} if options.pop("policy", None) else {}
    policy = "smtp-auth" if with_logins else "plaintext"
    assert closed(ours(*pieces, policy=policy, **options))
    assert not closed(stock(*pieces, **options, **with_logins)), "aiosmtpd does that now: the override can go"
    assert inspect.getdoc(getattr(SmtpMachine, name)).startswith("Gap: ")  # type: ignore[union-attr]


def test_starttls_inside_tls_is_refused_here_and_not_there(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    # aiosmtpd's second TLS, which nobody begins, ends with tracebacks.
    caplog.set_level(logging.CRITICAL, "asyncio")
    caplog.set_level(logging.CRITICAL, "mail.log")
    context = authority().server_context()
    loop = network.call(asyncio.get_running_loop)
    stocks = network.listen(lambda: SMTP(Sink(), hostname="x", tls_context=context, loop=loop))
    with labkit.Provider("starttls") as provider:
        replies = []
        for port in (stocks.port, provider.smtp_port):
            with smtplib.SMTP("localhost", port, timeout=10) as client:
                client.starttls(context=authority().client_context())
                client.ehlo()
                replies.append(client.docmd("STARTTLS")[0])
                client.close()
    network.stop()
    assert replies == [220, 503]
    assert inspect.getdoc(SmtpMachine.smtp_STARTTLS).startswith("Gap: ")  # type: ignore[union-attr]


def test_a_new_connection_is_not_searched_for_all_that_python_gives_it() -> None:
    with InMemory(a_service()) as session:
        assert set(dir(session.machine)) == {f"smtp_{command}" for command in COMMANDS}
    assert len(dir(SMTP)) > 5 * len(COMMANDS)


def test_every_override_is_in_this_file() -> None:
    mine = {name for name in vars(SmtpMachine) if name in dir(SMTP) and not name.startswith("__")}
    assert mine == {
        *GAPS,
        "smtp_STARTTLS",
        "smtp_QUIT",
    }  # QUIT ends a task that aiosmtpd's connection has, and ours has not
    inherited = {name for name in dir(SMTP) if name.startswith("smtp_")} - mine
    assert inherited == {"smtp_HELO", "smtp_NOOP", "smtp_RSET", "smtp_EXPN"}


# The contract


def test_the_installed_aiosmtpd_is_the_one_that_was_read() -> None:
    """What is used of it is public, is there, and means what it meant."""
    assert version("aiosmtpd").startswith("1.4."), "read its smtp.py again, then move the bound in pyproject.toml"
    parameters = inspect.signature(SMTP.__init__).parameters
    assert {"handler", "data_size_limit", "enable_SMTPUTF8", "hostname", "loop"} <= set(parameters)
    session, envelope = Session(asyncio.new_event_loop()), Envelope()
    session.loop.close()
    assert {"peer", "ssl", "host_name", "extended_smtp", "auth_data", "authenticated"} <= set(vars(session))
    assert vars(envelope) == {
        "mail_from": None,
        "mail_options": [],
        "smtp_utf8": False,
        "content": None,
        "original_content": None,
        "rcpt_tos": [],
        "rcpt_options": [],
    }
    assert MISSING
    with InMemory(a_service()) as one:
        own = {name for name in vars(one.machine) if name.startswith("_")}
        theirs = set(vars(SMTP(object(), hostname="x", loop=one.loop)))
    assert {name for name in vars(SmtpMachine) if name.startswith("_") and not name.startswith("__")}.isdisjoint(
        dir(SMTP)
    )
    assert own - theirs == {"_can_start_tls", "_verb", "_replies", "_failed_logins", "_unknown_commands"}


# Handlers that were written for aiosmtpd


class Every:
    """Has every hook that the lab calls, and writes down how it was called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.problems: list[Any] = []

    def _note(self, name: str, server: SMTP, session: Session, envelope: Envelope) -> None:
        self.calls.append(name)
        known = isinstance(server, SMTP) and isinstance(session, Session) and isinstance(envelope, Envelope)
        if not (known and server.session is session and server.envelope is envelope and server.transport):
            self.problems.append(name)

    async def handle_HELO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
        self._note("HELO", server, session, envelope)
        session.host_name = hostname
        return "250 hello"

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self._note("EHLO", server, session, envelope)
        session.host_name = hostname
        return [*responses[:-1], "250-XTRA", responses[-1]]

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self._note(f"MAIL {address} {options}", server, session, envelope)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self._note(f"RCPT {address} {options}", server, session, envelope)
        if address.startswith("no"):
            return "550 not relaying to that domain"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self._note(f"DATA {envelope.rcpt_tos} {envelope.content!r}", server, session, envelope)
        await asyncio.sleep(0)
        return "250 Message accepted for delivery"

    async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
        self._note(f"NOOP {arg}", server, session, envelope)
        return "250 still here"

    async def handle_RSET(self, server: Any, session: Any, envelope: Any) -> str:
        self._note("RSET", server, session, envelope)
        return "250 forgotten"

    async def handle_VRFY(self, server: Any, session: Any, envelope: Any, address: str) -> str:
        self._note(f"VRFY {address}", server, session, envelope)
        return "252 who knows"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        self._note("QUIT", server, session, envelope)
        return "221 so long"

    def handle_STARTTLS(self, server: Any, session: Any, envelope: Any) -> bool:
        self._note(f"STARTTLS {sorted(session.ssl)}", server, session, envelope)
        return True


def test_every_hook_is_called_with_aiosmtpds_own_objects_on_the_wire() -> None:
    handler = Every()
    with labkit.Provider("starttls", accounts=a_service().accounts, handler=handler) as provider:
        with smtplib.SMTP(provider.host, provider.smtp_port, timeout=10) as client:
            client.starttls(context=authority().client_context())
            client.ehlo("c.example")
            assert client.has_extn("xtra")
            client.login("hanako", "correct horse")
            assert client.docmd("NOOP", "x") == (250, b"2.0.0 still here")
            assert client.docmd("VRFY", "x") == (252, b"2.0.0 who knows")
            assert client.rset() == (250, b"2.0.0 forgotten")
            refused = client.sendmail("a@b.example", ["taro@mail.example", "nobody@x.example"], b"x\r\n.\r\n")
            assert refused == {"nobody@x.example": (550, b"5.0.0 not relaying to that domain")}
            assert client.quit() == (221, b"2.0.0 so long")
        assert provider.maildrops["taro"].messages() == ()
    assert handler.problems == []
    assert handler.calls == [
        "EHLO",
        "STARTTLS ['cipher', 'compression', 'peercert', 'ssl_object', 'sslcontext']",
        "EHLO",
        "NOOP x",
        "VRFY x",
        "RSET",
        "MAIL a@b.example ['SIZE=6']",
        "RCPT taro@mail.example []",
        "RCPT nobody@x.example []",
        "DATA ['taro@mail.example'] b'x\\r\\n.\\r\\n'",
        "QUIT",
    ]


def test_what_a_handler_does_not_do_the_lab_does() -> None:
    class Choosy:
        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
            if address.startswith("hanako"):
                return "450 later"
            envelope.rcpt_tos.append(address)
            return "250 OK"

    service = a_service()
    with InMemory(service, handler=Choosy()) as session:
        session.feed(BEGUN + b"RCPT TO:<hanako@mail.example>\r\nDATA\r\n")
        assert session.feed(b"x\r\n.\r\n") == [b"250 2.0.0 OK: message stored\r\n"]
    assert [message.content for message in service.maildrops["taro"].messages()] == [b"x\r\n"]
    assert service.maildrops["hanako"].messages() == ()


def test_a_handler_that_accepts_and_adds_nobody_gets_no_message() -> None:
    class Forgetful:
        async def handle_RCPT(self, *_: Any) -> str:
            return "250 OK"

    writes = ours(BEGUN + b"DATA\r\n", handler=Forgetful())
    assert last(writes).endswith("503 5.5.1 No valid recipients: say RCPT first\r\n")


def test_aiosmtpds_own_handlers_run() -> None:
    class Kept(aiosmtpd.handlers.Message):
        seen: list[Any] = []  # noqa: RUF012

        def handle_message(self, message: Any) -> None:
            self.seen.append(message)

    with labkit.Provider(handler=Kept()) as provider:
        with smtplib.SMTP(provider.host, provider.smtp_port, timeout=10) as client:
            client.sendmail("a@b.example", ["taro@mail.example"], b"Subject: hi\r\n\r\nx\r\n")
        (message,) = Kept.seen
    assert message["Subject"] == "hi"
    assert message["X-MailFrom"] == "a@b.example"
    assert message["X-Peer"].startswith("('127.0.0.1', ")


def test_a_handler_may_refuse_what_tls_came_to(network: Network) -> None:
    class Strict:
        def handle_STARTTLS(self, *_: Any) -> bool:
            return False

    from labkit.mail.smtp import smtp_factory

    listener = network.listen(smtp_factory(a_service("starttls"), authority().server_context(), Strict()))
    with Talk(listener) as talk:
        talk.say("EHLO c", "STARTTLS")
        talk.start_tls(authority().client_context())
        assert talk.say("EHLO c") == ""


def test_a_handler_that_has_no_reply_is_an_error_inside() -> None:
    class Mute:
        async def handle_EHLO(
            self, server: Any, session: Any, envelope: Any, hostname: str, responses: Any
        ) -> list[str]:
            return []

    assert last(ours(b"EHLO c\r\n", handler=Mute())) == "451 4.3.0 Requested action aborted: error in processing\r\n"


def test_the_hook_of_before_aiosmtpd_1_3_is_refused() -> None:
    class Old:
        async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
            return "250 HELP"

    with pytest.raises(BadSetting, match="handle_EHLO takes five arguments"):
        labkit.Provider(handler=Old())


@pytest.mark.parametrize("hook", ["handle_AUTH", "handle_PROXY", "process_message", "auth_XOAUTH2"])
def test_a_hook_that_would_never_be_called_is_refused(hook: str) -> None:
    handler = type("Handler", (), {hook: None})()
    with pytest.raises(BadSetting, match=f"has {hook}, which the lab does not call"):
        labkit.Provider(handler=handler)
    check_handler(Every())
