"""The gaps of a browser tab, filled: tried here in a process of its own, for they stay filled."""

import subprocess
import sys

import pytest

AFTERWARDS = {
    "the only network is the lab's": """
import socket
for reach in (lambda: socket.create_connection(("192.0.2.1", 25)), lambda: socket.socket().connect(("127.0.0.1", 25))):
    try:
        reach()
    except ConnectionRefusedError as error:
        assert "browser tab" in str(error)
    else:
        raise AssertionError("it reaches out")
assert socket.getaddrinfo("localhost", 25)[0][4] == ("127.0.0.1", 25)
try:
    socket.getaddrinfo("mail.example", 25)
except socket.gaierror:
    pass
""",
    "IPv6 texts": """
import socket
assert socket.inet_pton(socket.AF_INET6, "2001:db8::1").hex() == "20010db8" + "0" * 23 + "1"
assert socket.inet_ntop(socket.AF_INET6, bytes(15) + b"\\1") == "::1"
assert socket.inet_ntop(socket.AF_INET, b"\\1\\2\\3\\4") == "1.2.3.4"
try:
    socket.inet_pton(socket.AF_INET6, "1.2.3.4")
except OSError:
    pass
else:
    raise AssertionError("a wrong text")
""",
    "one thread": """
from concurrent.futures import ThreadPoolExecutor
import threading
threading.Thread.start = None
with ThreadPoolExecutor(3) as pool:
    assert list(pool.map(lambda number: number + 1, [1, 2])) == [2, 3]
    assert isinstance(pool.submit(lambda: 1 / 0).exception(), ZeroDivisionError)
""",
    "TLS": """
import ssl
from labkit.browser import tls
assert ssl.SSLContext is tls.SSLContext
assert isinstance(ssl.create_default_context(), tls.SSLContext)
assert ssl._create_stdlib_context().verify_mode == ssl.CERT_NONE
""",
    "cryptography": """
import sys
from cryptography import x509
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
assert AESGCM.__module__ == "labkit.browser.ciphers"
assert "tlslite" in sys.modules and "_cffi_backend" not in sys.modules
""",
}


@pytest.mark.parametrize("gap", AFTERWARDS)
def test_a_gap_is_filled(gap: str) -> None:
    program = "import labkit.browser.platform as platform\nplatform.fill()\n" + AFTERWARDS[gap]
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_elsewhere_nothing_is_filled() -> None:
    program = "import sys, labkit; sys.exit(any(name.startswith('labkit.browser') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
