"""SMTP's syntax: what follows MAIL and RCPT (RFC 5321 section 4.1.2), and what a reply begins with (RFC 2034)."""

import re
from collections.abc import Mapping
from types import MappingProxyType

# RFC 5321 section 4.1.2, with RFC 6531's letters, and underscores in host names, which people have.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_QUOTED = r'"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*"'
_DOMAIN = r"(?:[A-Za-z0-9_\x80-\U0010ffff-]+(?:\.[A-Za-z0-9_\x80-\U0010ffff-]+)*|\[[!-Z^-~]+\])"
_PATH = re.compile(
    rf"(?P<keyword>FROM|TO): *<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
    rf"(?P<mailbox>(?:(?:{_ATOM}(?:\.{_ATOM})*|{_QUOTED})@{_DOMAIN}|postmaster)?)>(?P<parameters>(?: .*)?)",
    re.IGNORECASE | re.ASCII,
)
_PARAMETER = re.compile(r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~\x80-\U0010ffff]+))?")
_XTEXT = re.compile(r"<>|(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 4954 section 5; RFC 3461 section 4

_MAIL_PARAMETERS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "SIZE": re.compile(r"[0-9]{1,20}"),  # RFC 1870 section 4
        "BODY": re.compile(r"7BIT|8BITMIME", re.IGNORECASE | re.ASCII),  # RFC 6152
        "SMTPUTF8": re.compile(r""),  # RFC 6531 section 3.4
        "AUTH": _XTEXT,  # RFC 4954 section 5
    }
)


# Enhanced status codes (RFC 3463) for replies of aiosmtpd and of its handlers, which need not have any.
_UNENHANCED = re.compile(r"([245][0-9]{2}) (?![245]\.[0-9]{1,3}\.[0-9]{1,3} )(.*)", re.DOTALL)
_OF_COMMAND = {("MAIL", "250"): "2.1.0", ("RCPT", "250"): "2.1.5"}
_OF_REPLY = {"500": "5.5.1", "501": "5.5.4", "502": "5.5.1", "503": "5.5.1"}


class Refused(Exception):
    """A command cannot be carried out; the text is the reply."""


def words(text: str) -> list[str]:
    """What stands between spaces, and no other character that looks like one (RFC 5321 section 4.1.2)."""
    return [word for word in text.split(" ") if word]


def parse_path(argument: str | None, keyword: str, bad_syntax: str, bad_address: str) -> Mapping[str, str]:
    """The "mailbox" and the "parameters" of FROM:<…> or TO:<…>. Raises Refused with one of the two replies."""
    path = _PATH.fullmatch(argument or "")
    if path and path["keyword"].upper() == keyword:
        return path.groupdict()
    well_begun = re.match(rf"{keyword}: *<", argument or "", re.IGNORECASE | re.ASCII)
    raise Refused(bad_address if well_begun else bad_syntax)


def parse_parameters(text: str, *, extended: bool) -> dict[str, str]:
    """A command's parameters by upper-case keyword, "" for one without value. Raises Refused. extended: EHLO was said."""
    parameters: dict[str, str] = {}
    for part in words(text):
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None or parameter["keyword"].upper() in parameters:
            raise Refused("501 5.5.4 Bad or repeated parameter")
        parameters[parameter["keyword"].upper()] = parameter["value"] or ""
    if parameters and not extended:
        raise Refused("555 5.5.4 Parameters need EHLO")
    return parameters


def mail_parameters(text: str, *, extended: bool, auth: bool) -> dict[str, str]:
    """MAIL's parameters, as `parse_parameters` gives them, each checked. auth: AUTH is offered."""
    parameters = parse_parameters(text, extended=extended)
    for keyword, value in parameters.items():
        if keyword not in _MAIL_PARAMETERS or (keyword == "AUTH" and not auth):
            raise Refused(f"555 5.5.4 {keyword} is not supported")
        if not _MAIL_PARAMETERS[keyword].fullmatch(value):
            raise Refused(f"501 5.5.4 Bad value for {keyword}")
    return parameters


def with_enhanced_code(reply: str, verb: str) -> str:
    """A reply to this command with an enhanced status code, which every one has but those to EHLO and HELO (RFC 2034)."""
    found = _UNENHANCED.fullmatch(reply)
    if found is None:
        return reply
    enhanced = _OF_COMMAND.get((verb, found[1])) or _OF_REPLY.get(found[1]) or f"{found[1][0]}.0.0"
    return f"{found[1]} {enhanced} {found[2]}"
