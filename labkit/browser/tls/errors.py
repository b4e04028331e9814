"""What goes wrong in TLS, as OpenSSL says it: the errors of `ssl` with their `reason`, from tlslite-ng's."""

import ssl

from tlslite.constants import AlertDescription
from tlslite.errors import TLSAbruptCloseError, TLSLocalAlert, TLSRemoteAlert

from labkit.browser.tls.chain import Refusal

# Alerts that SSL 3.0 had already are told with its name, and the rest with that of the version that brought them.
_SINCE_TLS_1 = {21, 22, *range(48, 109)}
_SINCE_TLS_1_3 = {109, 116}

_OWN_WORDS = {  # where OpenSSL says something else than the alert that it sends
    AlertDescription.bad_record_mac: "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
    AlertDescription.protocol_version: "UNSUPPORTED_PROTOCOL",
    AlertDescription.handshake_failure: "NO_SHARED_CIPHER",
    AlertDescription.record_overflow: "PACKET_LENGTH_TOO_LONG",
}


class WrongVersion(Exception):
    """What came is no record of TLS. in_the_middle: others were, before it."""

    def __init__(self, in_the_middle: bool) -> None:
        super().__init__(in_the_middle)
        self.in_the_middle = in_the_middle


def want_read() -> ssl.SSLWantReadError:
    """Nothing can be done until more octets have come."""
    return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)")


def closed() -> ssl.SSLZeroReturnError:
    """The connection has ended in order."""
    return ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "TLS/SSL connection has been closed (EOF)")


def failed(reason: str) -> ssl.SSLError:
    """An error with OpenSSL's name for its reason."""
    return _told(ssl.SSLError(ssl.SSL_ERROR_SSL, f"[SSL: {reason}] {reason.lower().replace('_', ' ')}"), reason)


def refused(why: Refusal) -> ssl.SSLCertVerificationError:
    """A certificate was not accepted."""
    words = f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {why.words}"
    error = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, words)
    error.verify_code, error.verify_message = why.code, why.words
    _told(error, "CERTIFICATE_VERIFY_FAILED")
    return error


def translated(error: Exception) -> ssl.SSLError:
    """What tlslite-ng raises. On hostile octets that may be anything."""
    match error:
        case TLSAbruptCloseError():
            eof = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")
            return _told(eof, "UNEXPECTED_EOF_WHILE_READING")
        case WrongVersion():
            return failed("WRONG_VERSION_NUMBER")
        case TLSRemoteAlert(description=alert):
            return failed(_alert_reason(alert))
        case TLSLocalAlert(description=alert):
            return failed(_OWN_WORDS.get(alert, AlertDescription.toStr(alert).upper()))
    return failed("INTERNAL_ERROR")


def _alert_reason(alert: int) -> str:
    name = AlertDescription.toStr(alert).upper()
    if alert in _SINCE_TLS_1_3:
        return f"TLSV13_ALERT_{name}"
    if alert >= AlertDescription.unsupported_extension:
        return f"TLSV1_{name}"
    return f"TLSV1_ALERT_{name}" if alert in _SINCE_TLS_1 else f"SSLV3_ALERT_{name}"


def _told(error: ssl.SSLError, reason: str) -> ssl.SSLError:
    error.library, error.reason = "SSL", reason
    return error
