"""What both servers do alike with strangers: how long they put up with them, and whom they do not talk to at all."""

import re

FAILED_LOGINS = 3  # in one session, cancelled exchanges among them
UNKNOWN_COMMANDS = 10  # in one session

# A request line's methods (RFC 9110 section 9, RFC 5789, RFC 9113 section 3.4), or a header field.
_HTTP = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI)(?: .*)?|[A-Z0-9-]+:.*", re.DOTALL | re.IGNORECASE
)


def is_http(line: bytes) -> bool:
    """Whether it is a line of HTTP: a web page can make a browser post to any port, with commands in the body."""
    return _HTTP.fullmatch(line) is not None
