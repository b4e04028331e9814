"""What a browser tab's Python lacks, filled as far as the lessons need it, before anything else is imported.

Pyodide is CPython without a network, threads, OpenSSL, compiled packages and parts of the standard library. Each gap is
filled by one function, which says why. labkit calls `fill` itself, and only where `sys.platform` is "emscripten".
"""

import ipaddress
import logging
import socket
import ssl
import sys
from collections.abc import Callable
from concurrent import futures
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from labkit.texts import _

T = TypeVar("T")


def fill() -> None:
    """Fill every gap. Once in a process, and before what needs it is imported."""
    _databases()
    _ipv6_texts()
    _no_other_network()
    _threads()
    _tls()
    _cryptography()
    _silence()


def _databases() -> None:
    """Pyodide has no `dbm`. tlslite-ng imports it for files of passwords, which nobody here makes."""
    sys.modules.setdefault("dbm", ModuleType("dbm"))


def _ipv6_texts() -> None:
    """Emscripten knows no IPv6. asn1crypto, scapy and the captures of others need its texts, and no socket."""
    to_octets, to_text = socket.inet_pton, socket.inet_ntop

    def inet_pton(family: int, text: str) -> bytes:
        if family != socket.AF_INET6:
            return to_octets(family, text)
        try:
            return ipaddress.IPv6Address(text).packed
        except ValueError:
            raise OSError("illegal IP address string passed to inet_pton") from None

    def inet_ntop(family: int, octets: Any) -> str:
        return str(ipaddress.IPv6Address(bytes(octets))) if family == socket.AF_INET6 else to_text(family, octets)

    vars(socket).update(inet_pton=inet_pton, inet_ntop=inet_ntop, has_ipv6=True)  # scapy asks for the last


def _no_other_network() -> None:
    """A tab reaches no other computer: Emscripten's sockets would look for a proxy. What remains is `wire.memory`."""

    def nowhere(*_where: object, **_how: object) -> NoReturn:
        raise ConnectionRefusedError(_("A browser tab reaches no other computer: here are the lab's own servers only."))

    def getaddrinfo(host: Any, port: Any, *_hints: object, **_more: object) -> list[tuple[Any, ...]]:
        if host != "localhost" and not str(host).startswith("127."):
            message = _("A browser tab can look up no name: here are the lab's own servers only.")
            raise socket.gaierror(socket.EAI_NONAME, message)
        address = "127.0.0.1" if host == "localhost" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, int(port or 0)))]

    vars(socket).update(create_connection=nowhere, getaddrinfo=getaddrinfo)
    for name in ("connect", "connect_ex", "bind"):
        setattr(socket.socket, name, nowhere)


def _threads() -> None:
    """A tab has one thread: what a pool is given is done at once, one after the other."""

    class OneAfterTheOther(futures.Executor):
        def __init__(self, *_workers: object, **_more: object) -> None:
            """However many workers are asked for."""

        def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "futures.Future[T]":
            future: futures.Future[T] = futures.Future()
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)
            return future

    vars(futures).update(ThreadPoolExecutor=OneAfterTheOther)


def _tls() -> None:
    """Pyodide's `ssl` has names and no TLS."""
    from labkit.browser import tls

    vars(ssl).update(
        SSLContext=tls.SSLContext,
        SSLObject=tls.SSLObject,
        SSLSocket=tls.SSLSocket,
        create_default_context=tls.create_default_context,
        _create_stdlib_context=tls.create_unverified_context,
        HAS_TLSv1_3=True,
        OPENSSL_VERSION="tlslite-ng",
    )


def _cryptography() -> None:
    """`cryptography` is compiled, and not to be had here: what opens records and reads certificates is ours."""
    from labkit.browser import certificates, ciphers

    for name, contents in (ciphers.MODULES | certificates.MODULES).items():
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(contents, __path__=[])


def _silence() -> None:
    """scapy warns that it knows no network cards here, which nobody has asked it for."""
    for name in ("scapy.loading", "scapy.runtime"):
        logging.getLogger(name).addFilter(lambda record: "emscripten" not in record.getMessage())
