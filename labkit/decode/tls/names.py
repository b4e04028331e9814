"""What the numbers of TLS are called: IANA's TLS Parameters and TLS ExtensionType Values, and the RFCs behind them.

The names are data (registries.csv). GREASE values (RFC 8701) are numbers that mean nothing: a client sprinkles them in so
that servers learn to ignore what they do not know.
"""

from collections.abc import Callable

from labkit.decode.registries import REGISTRIES

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT = range(20, 25)
CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET = 1, 2, 4

ALERTS = REGISTRIES["alerts"]
ALERT_LEVELS = REGISTRIES["alert_levels"]
CERTIFICATE_COMPRESSIONS = REGISTRIES["certificate_compressions"]
CERTIFICATE_TYPES = REGISTRIES["certificate_types"]
CIPHER_SUITES = REGISTRIES["cipher_suites"]
CLIENT_CERTIFICATE_TYPES = REGISTRIES["client_certificate_types"]
COMPRESSION_METHODS = REGISTRIES["compression_methods"]
CONTENT_TYPES = REGISTRIES["content_types"]
EXTENSIONS = REGISTRIES["extensions"]
GROUPS = REGISTRIES["groups"]
HANDSHAKE_TYPES = REGISTRIES["handshake_types"]
MAX_FRAGMENT_LENGTHS = REGISTRIES["max_fragment_lengths"]
POINT_FORMATS = REGISTRIES["point_formats"]
PSK_MODES = REGISTRIES["psk_modes"]
SIGNATURES = REGISTRIES["signatures"]
VERSIONS = REGISTRIES["versions"]


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
