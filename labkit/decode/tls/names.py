"""What the numbers of TLS are called: IANA's TLS Parameters and TLS ExtensionType Values, and the RFCs behind them.

The names are data, in registries.csv. GREASE values (RFC 8701) are numbers that mean nothing: a client sprinkles them in so
that servers learn to ignore what they do not know.
"""

import csv
from collections.abc import Callable
from importlib.resources import files

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT = range(20, 25)
CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET = 1, 2, 4


def _registries() -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    with (files(__package__) / "registries.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["registry"], {})[int(row["number"], 0)] = row["name"]
    return found


_FOUND = _registries()
ALERTS = _FOUND["alerts"]
ALERT_LEVELS = _FOUND["alert_levels"]
CERTIFICATE_COMPRESSIONS = _FOUND["certificate_compressions"]
CERTIFICATE_TYPES = _FOUND["certificate_types"]
CIPHER_SUITES = _FOUND["cipher_suites"]
CLIENT_CERTIFICATE_TYPES = _FOUND["client_certificate_types"]
COMPRESSION_METHODS = _FOUND["compression_methods"]
CONTENT_TYPES = _FOUND["content_types"]
EXTENSIONS = _FOUND["extensions"]
GROUPS = _FOUND["groups"]
HANDSHAKE_TYPES = _FOUND["handshake_types"]
MAX_FRAGMENT_LENGTHS = _FOUND["max_fragment_lengths"]
POINT_FORMATS = _FOUND["point_formats"]
PSK_MODES = _FOUND["psk_modes"]
SIGNATURES = _FOUND["signatures"]
VERSIONS = _FOUND["versions"]


def is_grease(number: int) -> bool:
    """Whether the 16-bit number is one of RFC 8701's sixteen (0x0A0A, 0x1A1A … 0xFAFA)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def name_of(table: dict[int, str], number: int, digits: int = 4) -> str:
    """The number's name in the table, "GREASE", or the number itself in hexadecimal."""
    return table.get(number) or ("GREASE" if digits == 4 and is_grease(number) else f"0x{number:0{digits}X}")


def naming(table: dict[int, str], digits: int = 4) -> Callable[[int], str]:
    """`name_of` this table, for a field that holds such a number."""
    return lambda number: name_of(table, number, digits)


def suite_name(number: int) -> str:
    """A cipher suite's IANA name, "GREASE", or its number in hexadecimal."""
    return name_of(CIPHER_SUITES, number)


def version_name(number: int) -> str:
    """A protocol version's name: 0x0303 is "TLS 1.2"; drafts of TLS 1.3 are told by their number."""
    return f"TLS 1.3 draft {number & 0xFF}" if number >> 8 == 0x7F else name_of(VERSIONS, number)
