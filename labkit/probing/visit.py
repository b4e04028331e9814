"""The visit: one polite connection to each port, all at once, within one limit of time.

Each visit fills in its Offer step by step, so what was learned before something went wrong is kept. The TLS of a visit
accepts every certificate, because nothing secret is said inside it; the certificate is judged afterwards.
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from labkit.decode.protocol import Protocol
from labkit.decode.protocols import POP3, SMTP
from labkit.errors import BadSetting, expect, is_port
from labkit.mail.accounts import DOMAIN
from labkit.mail.lineclient import LineClient
from labkit.mail.policy import Security
from labkit.probing.card import ReportCard
from labkit.probing.certificate import chain_of, judged, openssl_reason, trusting
from labkit.probing.offer import Offer
from labkit.provider import Provider
from labkit.texts import _


def probe(
    host: str | Provider,
    *,
    smtp_ports: Iterable[int] | None = None,
    pop3_ports: Iterable[int] | None = None,
    timeout: float = 5.0,
    trusted_ca: str | None = None,
) -> ReportCard:
    """Ask a mail provider what it offers: 587 and 465 to send, 110 and 995 to read, unless other ports are given.

    host: a name or an address, or a running Provider, whose own ports, name and authority are then taken. timeout: seconds
    in all, whatever the number of ports and addresses: all ports are asked at once. trusted_ca: certificates in PEM to
    trust instead of the system's. On a port whose use is not known, TLS is tried when the server has not greeted within
    half of the time. Raises BadSetting for a host, a port or a certificate that cannot be one; everything else is told in
    the card.
    """
    if timeout <= 0:
        raise BadSetting(_("The timeout must be more than 0 seconds."))
    for given_ports in (smtp_ports, pop3_ports):
        expect(given_ports, (Iterable, type(None)), _("ports as a list, such as [2525]"))
    own = host if isinstance(host, Provider) else None
    name = DOMAIN if isinstance(host, Provider) else _host(host)
    trust = trusting(trusted_ca or own.ca_pem if own else trusted_ca)
    asked = [
        (protocol, _port(port))
        for protocol, ports in ((SMTP, smtp_ports), (POP3, pop3_ports))
        for port in (_usual(protocol, own) if ports is None else ports)
    ]
    if not asked:
        raise BadSetting(_("There is no port to ask: name at least one."))

    def visit(protocol: Protocol, port: int) -> Offer:
        implicit = _begins_with_tls(protocol, port) if own is None else own.policy.security is Security.SSL
        shown = port if own is None else _standard(protocol, own.policy.security)
        return _Visit(Offer(protocol.name, shown), name, trust).made(own.host if own else name, port, implicit, timeout)

    with ThreadPoolExecutor(len(asked)) as pool:
        return ReportCard(name, list(pool.map(visit, *zip(*asked, strict=True))))


def _usual(protocol: Protocol, own: Provider | None) -> tuple[int, ...]:
    """Where customers send and read mail (RFC 6409, RFC 8314, RFC 1939): port 25 is for servers among themselves."""
    if own is None:
        return protocol.ports.upgraded, protocol.ports.tls
    return (own.smtp_port if protocol is SMTP else own.pop3_port,)


def _standard(protocol: Protocol, security: Security) -> int:
    ports = protocol.ports
    return {Security.NONE: ports.clear, Security.STARTTLS: ports.upgraded, Security.SSL: ports.tls}[security]


def _begins_with_tls(protocol: Protocol, port: int) -> bool | None:
    """None for a port whose use is not known."""
    return True if port == protocol.ports.tls else False if port in protocol.ports.in_clear else None


def _host(host: str) -> str:
    expect(host, (str, Provider), _("a server's name such as mail.example, or a running labkit.Provider"))
    if "@" in host:
        message = _(
            "{host!r} is a mail address, and does not tell which servers its provider has: look them up in the "
            "provider's help, and give the name of one, such as mail.example."
        )
        raise BadSetting(message.format(host=host))
    try:
        if not host or re.search(r"[\s/\x00-\x1f\x7f]", host) or (":" in host and not _is_ipv6(host)):
            raise UnicodeError
        host.encode("idna")
    except UnicodeError:
        message = _("{host!r} is not a server's name: give a name such as mail.example, without a port or a scheme.")
        raise BadSetting(message.format(host=host)) from None
    return host


def _is_ipv6(host: str) -> bool:
    try:
        return bool(socket.inet_pton(socket.AF_INET6, host))
    except OSError:
        return False


def _port(port: int) -> int:
    if not is_port(port):
        raise BadSetting(_("{port!r} is not a port: give a number from 1 to 65535.").format(port=port))
    return port


class _NotMail(Exception):
    """What answers is no mail server of this protocol, or not to be believed; the text says why."""


class _Visit:
    """One connection to one port. What was learned is kept, however the visit ends."""

    def __init__(self, offer: Offer, name: str, trust: ssl.SSLContext) -> None:
        self._offer = offer
        self._name = name
        self._trust = trust
        self._protocol = offer.record
        # Whatever is shown is looked at: nothing secret will be said.
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def made(self, address: str, port: int, implicit: bool | None, timeout: float) -> Offer:
        try:
            with LineClient(address, port, timeout=timeout) as talk:
                self._look(talk, implicit)
        except _NotMail as why:
            self._learn(trouble=str(why))
        except OSError as error:
            self._learn(trouble=_trouble(error, timeout), listens=not isinstance(error, ConnectionRefusedError))
        return self._offer

    def _learn(self, **facts: Any) -> None:
        self._offer = replace(self._offer, **facts)

    def _look(self, talk: LineClient, implicit: bool | None) -> None:
        if implicit or (implicit is None and not talk.greeted()):
            self._start_tls(talk, Security.SSL)
        greeting = talk.reply()
        self._learn(greeting=greeting.first)
        if not greeting.code.startswith(self._protocol.accepts):
            message = _("no {protocol} greeting: {words}")
            raise _NotMail(message.format(protocol=self._protocol.label, words=greeting.first[:80]))
        offered = _CAPABILITIES[self._protocol](talk)
        if self._offer.security is Security.SSL:
            self._learn(inside=offered)
        else:
            self._learn(clear=offered)
            if self._offer.starts_tls:
                self._upgrade(talk)
        talk.say("QUIT")

    def _upgrade(self, talk: LineClient) -> None:
        command = self._protocol.upgrade
        answer = talk.say(command)
        if not answer.positive:
            raise _NotMail(
                _("it offers {command} and then refuses it: {words}").format(command=command, words=answer.first[:80])
            )
        if talk.something_came_early():
            raise _NotMail(_("something came in the clear behind the answer to {command}").format(command=command))
        self._start_tls(talk, Security.STARTTLS)
        self._learn(inside=_CAPABILITIES[self._protocol](talk))

    def _start_tls(self, talk: LineClient, security: Security) -> None:
        sock = talk.start_tls(self._tls, self._name)
        cipher = sock.cipher()
        self._learn(
            security=security,
            tls_version=(sock.version() or "").replace("TLSv", "TLS "),
            cipher=cipher[0] if cipher else "",
            certificate=judged(chain_of(sock), self._name, self._trust),
        )


def _extensions(talk: LineClient) -> tuple[str, ...]:
    reply = talk.say(f"EHLO {talk.own_address}")
    return tuple(line[4:] for line in reply.lines[1:]) if reply.positive else ()


def _pop3_capabilities(talk: LineClient) -> tuple[str, ...]:
    reply = talk.say("CAPA", listing=True)
    return reply.lines[1:] if reply.positive else ()


_CAPABILITIES: dict[Protocol, Callable[[LineClient], tuple[str, ...]]] = {
    SMTP: _extensions,
    POP3: _pop3_capabilities,
}


def _trouble(error: OSError, timeout: float) -> str:
    match error:
        case ConnectionRefusedError():
            return _("nothing listens there")
        case TimeoutError():
            return _("no answer within {seconds:g} seconds").format(seconds=timeout)
        case socket.gaierror():
            return _("no server of that name can be found")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return _("the server closed the connection in the middle of TLS")
        case ssl.SSLError():
            return _("TLS failed ({reason})").format(reason=openssl_reason(error))
    return error.strerror or str(error) or type(error).__name__
