"""The part of Python's `ssl` that mail programs use, made with tlslite-ng: for where OpenSSL is not, such as a browser tab.

Handshakes, records and checks of certificates are real. Everything is one `SSLObject` between two MemoryBIOs, as in `ssl`,
so that asyncio's SSLProtocol, smtplib and poplib run on it unmodified; `SSLSocket` (`wire/sockets.py`) is a loop around one.

    context.py   SSLContext: what one wants of TLS             session.py   SSLObject: one connection
    chain.py     whether a certificate is to be believed       engine.py    tlslite-ng, made to behave as OpenSSL does
    keylog.py    the session keys, written down                describe.py  certificates and suites in the words of `ssl`
    errors.py    what goes wrong, in OpenSSL's words

What `ssl` has and this has not: session resumption and tickets, ALPN, client certificates, a choice of ciphers, ChaCha20,
DHE, keys other than RSA, revocation, a system's own certificates. No lesson needs them, and tlslite-ng gives only some.
"""

from labkit.browser.tls.context import (
    SSLContext,
    create_default_context,
    create_unverified_context,
)
from labkit.browser.tls.session import SSLObject
from labkit.wire.sockets import TlsSocket as SSLSocket

__all__ = ["SSLContext", "SSLObject", "SSLSocket", "create_default_context", "create_unverified_context"]
