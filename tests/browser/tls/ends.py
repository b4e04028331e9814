"""Two ends of a connection in memory, each of OpenSSL or of ours, and a transcript of what they said of it."""

import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from labkit.browser import tls as ours
from labkit.mail.certificates import Certificate, authority

LIBRARIES: dict[str, ModuleType] = {"openssl": ssl, "ours": ours}
BOTH_WAYS_ROUND = [("ours", "openssl"), ("openssl", "ours"), ("ours", "ours")]  # client, server
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
NAME = "mail.example"


def client_context(library: str, *, keylog: Path | None = None, trusted: bytes | None = None) -> Any:
    """A client that trusts the lab's authority, or another."""
    context = LIBRARIES[library].create_default_context(cadata=(trusted or authority().ca_pem).decode())
    if keylog is not None:
        context.keylog_filename = str(keylog)
    return context


def server_context(library: str, certificate: Certificate = Certificate.GOOD, *, keylog: Path | None = None) -> Any:
    """A server with one of the lab's certificates, which sends no tickets."""
    context = LIBRARIES[library].SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        path.write_bytes(authority().key_and_chain(certificate))
        context.load_cert_chain(path)
    if keylog is not None:
        context.keylog_filename = str(keylog)
    return context


@dataclass
class End:
    """One end, and what has become of what it was asked to do."""

    name: str
    tls: Any
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    said: list[tuple[object, ...]] = field(default_factory=list)

    def attempt(self, method: str, *given: object) -> bool:
        """Call one of its methods and write down what it came to: whether that is final."""
        try:
            result = getattr(self.tls, method)(*given)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            result = told(error)
        self.said.append((method, result))
        return True


def told(error: ssl.SSLError) -> tuple[object, ...]:
    """What programs look at in an error of `ssl`."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "ssl")
    code = getattr(error, "verify_code", None), getattr(error, "verify_message", None)
    return kind.__name__, int(error.args[0]), getattr(error, "reason", None), *code


class Connection:
    """A client and a server. size: how many octets arrive at a time."""

    def __init__(self, client: Any, server: Any, *, name: str = NAME, size: int | None = None) -> None:
        self._size = size
        ends = []
        for end, context, more in (
            ("client", client, {"server_hostname": name}),
            ("server", server, {"server_side": True}),
        ):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            ends.append(End(end, context.wrap_bio(incoming, outgoing, **more), incoming, outgoing))
        self.client, self.server = ends
        self._far = {"client": self.server, "server": self.client}

    def until_done(self, *work: tuple[End, str, tuple[object, ...]]) -> "Connection":
        """Let each of these be done, carrying octets to and fro, until all are, or nothing moves any more."""
        waiting = list(work)
        moved = True
        while waiting and moved:
            waiting = [task for task in waiting if not task[0].attempt(task[1], *task[2])]
            moved = sum(self._carry(end, waiting) for end in (self.client, self.server)) > 0
        for end, method, _given in waiting:
            end.said.append((method, "waits"))
        return self

    def _carry(self, end: End, waiting: list[Any]) -> bool:
        """Octets to the other end; in small pieces it is asked to go on after each."""
        data, far = end.outgoing.read(), self._far[end.name]
        size = self._size or len(data) or 1
        for piece in (data[at : at + size] for at in range(0, len(data), size)):
            far.incoming.write(piece)
            if self._size:
                waiting[:] = [task for task in waiting if task[0] is not far or not far.attempt(task[1], *task[2])]
        return bool(data)

    def handshake(self) -> "Connection":
        """Both make the handshake."""
        return self.until_done((self.client, "do_handshake", ()), (self.server, "do_handshake", ()))

    def carry(self, end: End, change: Callable[[bytes], bytes] = bytes) -> None:
        """What an end has sent arrives, changed."""
        self._far[end.name].incoming.write(change(end.outgoing.read()))

    @property
    def transcript(self) -> list[tuple[object, ...]]:
        """What both said, and what they agreed on."""
        agreed = [(end.name, *end.said, end.tls.version()) for end in (self.client, self.server)]
        return [*agreed, *{end.tls.cipher() for end in (self.client, self.server) if end.tls.version()}]


Play = Callable[[str, str], Connection]


def same_as_openssl(play: Play) -> None:
    """A scene gives one transcript, whoever plays the client and the server."""
    expected = play("openssl", "openssl").transcript
    for client, server in BOTH_WAYS_ROUND:
        assert play(client, server).transcript == expected, f"client {client}, server {server}"
