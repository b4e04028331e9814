"""tshark as the oracle of the decoders: what it finds in a capture, field by field, and the same facts as labkit finds them.

A fact is a line of text that begins with the number of its flow, so that both sides can be compared as lists.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, dissect
from labkit.decode.spans import Span
from labkit.decode.tls.decrypt import KeyLog, parse_keylog
from labkit.decode.tls.names import CIPHER_SUITES
from labkit.wire.flows import Side
from tests.conftest import output_of

Facts = Mapping[str, list[str]]
WHAT = ("flows", "smtp commands", "smtp codes", "pop3 commands", "pop3 indicators", "tls", "certificates")

_SEPARATOR = "\x1f"
_VERSIONS = {"0x0300": "SSL 3.0", "0x0301": "TLS 1.0", "0x0302": "TLS 1.1", "0x0303": "TLS 1.2", "0x0304": "TLS 1.3"}
_ATTRIBUTES = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
}


def run(path: Path, *arguments: str) -> str:
    """tshark's output for a capture."""
    return output_of("tshark", "-r", path, *arguments)


def rows(path: Path, only: str, *fields: str, options: Sequence[str] = ()) -> list[list[list[str]]]:
    """For each packet that the display filter `only` lets through: the values of each field."""
    asked = [argument for field in fields for argument in ("-e", field)]
    form = ["-T", "fields", "-E", "occurrence=a", "-E", f"aggregator={_SEPARATOR}"]
    found = run(path, *options, "-Y", only, *form, *asked)
    lines = (line.split("\t") for line in found.split("\n") if line)
    return [[[value for value in column.split(_SEPARATOR) if value] for column in line] for line in lines]


def their_facts(path: Path, options: Sequence[str] = ()) -> Facts:
    """What tshark finds in a capture."""
    found: dict[str, list[str]] = {what: [] for what in WHAT}
    ends: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    chosen: dict[str, list[str]] = {}
    certificates = False
    fields = (
        "tcp.stream",
        "ip.addr",
        "ipv6.addr",
        "tcp.srcport",
        "tcp.dstport",
        "smtp.command_line",
        "smtp.response.code",
        "pop.request.command",
        "pop.request.parameter",
        "pop.response.indicator",
        "tls.handshake.type",
        "tls.handshake.extensions_server_name",
        "tls.handshake.version",
        "tls.handshake.extensions.supported_version",
        "tls.handshake.ciphersuite",
        "tls.record.length",
    )
    for row in rows(path, "tcp && !icmp", *fields, options=options):
        stream = row[0][0]
        pairs = zip(row[1] or row[2], (*row[3], *row[4]), strict=True)
        ends.setdefault(stream, " ".join(sorted(f"{address}:{port}" for address, port in pairs)))
        found["smtp commands"] += (f"{stream} {_command(line)}" for line in row[5] if _is_text(line))
        found["smtp codes"] += (f"{stream} {code}" for code in row[6])
        # tshark cuts a request of POP3 into a command and what follows, one request in a packet
        found["pop3 commands"] += (f"{stream} {_command(' '.join((verb, *row[8])))}" for verb in row[7])
        found["pop3 indicators"] += (f"{stream} {indicator}" for indicator in row[9])
        if row[15]:
            names.setdefault(stream, [])
        if "1" in row[10]:
            names[stream] = names[stream] or row[11]
        if "2" in row[10]:
            version = (row[13] or row[12])[-1]
            chosen[stream] = [_VERSIONS[version], CIPHER_SUITES[int(row[14][-1], 0)]]
        certificates = certificates or "11" in row[10]
    found["flows"] = [f"{stream} {both}" for stream, both in ends.items()]
    found["tls"] = [" ".join([stream, *chosen.get(stream, ["-", "-"]), *name]) for stream, name in names.items()]
    found["certificates"] = list(_certificates(path, options)) if certificates else []
    return found


def _is_text(line: str) -> bool:
    """Whether a command is one: a capture that sends binary garbage to an SMTP server would fill the tables with it."""
    verb = line.partition(" ")[0].removesuffix("\\n").removesuffix("\\r")
    return verb.isascii() and verb.isprintable() and "\\" not in verb and (len(verb) > 1 or verb == ".")


def _command(line: str) -> str:
    """A command line as tshark prints it, with the verb as commands are compared; it prints line ends as escapes."""
    verb, _space, argument = line.removesuffix("\\n").removesuffix("\\r").partition(" ")
    return f"{verb.upper()} {argument.lstrip()}".rstrip()


def _certificates(path: Path, options: Sequence[str]) -> Iterator[str]:
    """Serial number and subject of each certificate, as tshark's tree says them."""
    tree = run(path, *options, "-Y", "tls.handshake.type == 11", "-T", "pdml")
    stream = serial = ""
    for line in tree.splitlines():
        if found := re.search(r'name="tcp\.stream".* show="(\d+)"', line):
            stream = found[1]
        elif found := re.search(r'name="x509af\.serialNumber" showname="serialNumber: 0x(\w+)"', line):
            serial = found[1]
        elif found := re.search(r'name="x509af\.rdnSequence" showname="rdnSequence: \d+ items? \((.*?)\)"', line):
            parts = [part.partition("=") for part in unescape(found[1]).removeprefix("id-at-").split(",id-at-")]
            subject = ", ".join(f"{_ATTRIBUTES[kind]}={value}" for kind, _equals, value in reversed(parts))
            yield f"{stream} {int(serial, 16):x} {subject}"


def our_facts(path: Path, keylog: Path | None = None) -> Facts:
    """The same of labkit; with keys, what they open follows what was in clear, as tshark shows it."""
    capture = Capture.load(path)
    keys: KeyLog | None = None
    if keylog or capture.keylog:
        capture = capture.unlock(keylog)
        keys = parse_keylog(keylog.read_text(encoding="ascii") if keylog else capture.keylog)
    found: dict[str, list[str]] = {what: [] for what in WHAT}
    for number, (told, flow) in enumerate(zip(capture.report()["flows"], capture.flows, strict=True)):
        ends = (f"{end.address}:{end.port}" for end in (flow.client, flow.server))
        found["flows"].append(f"{number} {' '.join(sorted(ends))}")
        dialogues = [(told["protocol"], told)]
        if flow.opened is not None:
            dialogues.append((flow.opened.protocol.name, told["opened"]))
        for protocol, dialogue in dialogues:
            if protocol in ("smtp", "pop3"):
                answers = "smtp codes" if protocol == "smtp" else "pop3 indicators"
                found[f"{protocol} commands"] += (f"{number} {line}" for line in _commands(dialogue))
                found[answers] += (f"{number} {reply['code']}" for reply in dialogue["replies"])
        if tls := told["tls"]:
            words = [tls["version"] or "-", tls["cipher"] or "-", tls["server_name"] or ""]
            found["tls"].append(" ".join([str(number), *words]).rstrip())
        found["certificates"] += (f"{number} {words}" for words in _named(flow.spans("server")))
        found["certificates"] += (f"{number} {words}" for words in _named(_opened_handshake(flow, keys)))
    return found


def _commands(dialogue: Mapping[str, Any]) -> Iterable[str]:
    lines = (f"{command['verb']} {command['argument']}".rstrip() for command in dialogue["commands"])
    return (line for line in lines if _is_text(line))


def _named(spans: tuple[Span, ...]) -> Iterator[str]:
    """Serial number and subject of each certificate, from the spans."""
    serial = ""
    for span in _all(spans):
        if span.field == "x509.serial":
            serial = f"{int(span.value, 16):x}"
        elif span.field == "x509.subject":
            yield f"{serial} {span.value}"


def _opened_handshake(flow: Dissection, keys: KeyLog | None) -> tuple[Span, ...]:
    handshake = dissect(flow.flow, keylog=keys).opened_handshake
    return handshake.spans(Side.SERVER) if handshake else ()


def _all(spans: tuple[Span, ...]) -> Iterator[Span]:
    for span in spans:
        yield span
        yield from _all(span.children)


def differences(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands only in ours and what stands only in theirs; the rest must stand in the same order."""
    counts = Counter(ours), Counter(theirs)
    only = counts[0] - counts[1], counts[1] - counts[0]
    assert _without(ours, only[0]) == _without(theirs, only[1]), "the same facts in another order"
    return list(only[0].elements()), list(only[1].elements())


def _without(facts: Sequence[str], surplus: Counter[str]) -> list[str]:
    left = Counter(surplus)
    kept = []
    for fact in facts:
        if left[fact]:
            left[fact] -= 1
        else:
            kept.append(fact)
    return kept
