"""SMTP on the wire: what each octet of a session means (RFC 5321 and its extensions).

A session is a table: what the client says next depends on its last command and on the reply to it. Only so is it known
whether a line is a command, an answer within AUTH, or part of a message. Where the replies are missing (a gap, one side
only, a capture that starts in the middle) the shape of the next line decides instead.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from enum import Enum
from itertools import groupby, starmap

from labkit.decode import sasl
from labkit.decode.fields import octets, text, whole_number
from labkit.decode.lines import (
    TLS_RECORD,
    Command,
    Element,
    ElementKind,
    Reading,
    Reply,
    Row,
    Terminators,
    blank_end,
    command_word,
    cut,
    fragment,
    line_end,
    line_end_span,
    list_commands,
    mechanism_of,
    separator,
    terminator_start,
    tls_start,
    upper,
    verb_of,
    verb_span,
    without_line_end,
    word_end,
)
from labkit.decode.message import content, dotted, message
from labkit.decode.protocol import Fact, Measured, Ports, Protocol, Service
from labkit.decode.spans import Span, Tiles, window
from labkit.texts import _
from labkit.wire.flows import Stream


class Turn(Enum):
    """What the client says next."""

    COMMAND = "a command"
    CONTENT = "a message, up to a line with a single dot"
    RESPONSE = "an answer within AUTH"
    TLS = "a TLS handshake"


# After this command and this reply comes …; in every other case another command (RFC 5321 3.3, RFC 4954 4, RFC 3207 4).
AFTER = {
    ("DATA", b"354"): Turn.CONTENT,
    ("AUTH", b"334"): Turn.RESPONSE,
    ("STARTTLS", b"220"): Turn.TLS,
}
# A reply that only one command can have: whatever else waits for an answer has lost it.
BELONGS = {b"354": "DATA", b"334": "AUTH"}

# A whole reply, a reply whose last line did not come, or a line that is none; together they tile whatever a server sends.
_PIECE = re.compile(rb"(?:\d{3}-[^\n]*\n)*(\d{3})(?!-)[^\n]*\n?|(?:(\d{3})-[^\n]*(?:\n|\Z))+|[^\n]*\n|[^\n]+")
_SHAPE = re.compile(
    rb"(?i)(?:(?:EHLO|HELO) [^\r\n]+|(?:MAIL FROM|RCPT TO):[^\r\n]*|(?:VRFY|EXPN|AUTH|BDAT|ETRN) [^\r\n]+"
    rb"|(?:NOOP|HELP)(?: [^\r\n]*)?|(?:DATA|RSET|QUIT|STARTTLS|TURN) *)\r?(?:\n|\Z)"
)
_NEXT_COMMAND = rb"(?i:MAIL FROM:<[^>\r\n]*>[^\r\n]*|QUIT|RSET)\r\n"
_NEXT_TRANSACTION = re.compile(rb"(?:\A|(?<=\n))" + _NEXT_COMMAND)
_AT_ONCE = re.compile(_NEXT_COMMAND)


def _recognise(client: bytes, server: bytes, expected: bool) -> bool:
    first = verb_of(client[:512].split(b"\n", 1)[0])
    if server[:3] == b"220" and (
        first in ("EHLO", "HELO") or (not first and (expected or b"SMTP" in server[:512].upper()))
    ):
        return True
    answers = not server or server[:1].isdigit()
    return answers and first in ("EHLO", "HELO", "MAIL", "RCPT") and _SHAPE.match(client) is not None


def scan(client: Stream, server: Stream, opened: bool, greeting: bool) -> Reading:
    """Cuts both streams into elements, following the replies. Never raises."""
    return SmtpScanner(client, server, opened, greeting).read()


def commands(client: Stream, server: Stream, opened: bool, greeting: bool) -> tuple[Command, ...]:
    """Every command of a session; cheap enough for captures with hundreds of thousands of packets."""
    return list_commands(client, SmtpScanner(client, server, opened, greeting).read_client())


def replies(server: Stream, reading: Reading) -> tuple[Reply, ...]:
    """Every reply of a session, challenges within AUTH among them."""
    data = server.data
    found = []
    for element in reading.server:
        if element.code:
            lines = data[element.start : element.end].splitlines()
            words = "\n".join(text(line[4:]) for line in lines)
            found.append(Reply(element.code, words, server.packet_at(element.start), element.start, element.end))
    return tuple(found)


# What the loop below compares with, looked up once: an enumeration's members are not cheap to name.
_NAMES = ElementKind.COMMAND, ElementKind.FRAGMENT, Turn.COMMAND, Turn.CONTENT, Turn.TLS


class SmtpScanner:
    """One pass over both streams. `lost` says that commands and replies can no longer be paired by counting."""

    def __init__(self, client: Stream, server: Stream, opened: bool, greeting: bool) -> None:
        self.client = client.data
        self.client_gap = client.gaps[0].at if client.gaps else len(client.data) + 1
        self.terminators = Terminators(client.data)
        self.rows: list[Row] = []
        self.pieces, self.server_tls = _pieces(server.data)
        self.usable = len(self.pieces)  # as answers: after a gap nobody knows what is answered
        if server.gaps:
            self.usable = bisect_left(self.pieces, server.gaps[0].at, key=re.Match.start)
        self.asked: list[tuple[str, str, int]] = []  # what each piece answers: verb, mechanism, step
        self.greeting = greeting and (server.data.startswith(b"220") or opened)
        self.lost = not (opened or self.greeting)
        self.tls: int | None = None

    def read(self) -> Reading:
        client = [*starmap(Element, self.read_client())]
        server = self.read_server()
        if self.server_tls is not None and self.tls is None:
            self.tls = len(self.client)
        elif self.tls is not None and self.server_tls is None:
            self.server_tls = server[-1].end if server else 0
        return Reading(client, server, self.tls, self.server_tls)

    def read_client(self) -> list[Row]:
        """The client's elements, each with the reply to it; the greeting is the reply to the connection itself.

        Sessions by the thousand pass here: what every line needs is done in place, with names that are looked up once.
        """
        client, size, rows, lost, gap = self.client, len(self.client), self.rows, self.lost, self.client_gap
        asked, codes = self.asked, [piece[1] or piece[2] for piece in self.pieces[: self.usable]]
        answers, tls_comes = len(codes), TLS_RECORD[0] in client
        command, fragment, a_command, content, tls = _NAMES
        at, turn, awaits_reply = 0, a_command, self.greeting
        about, mechanism, step = "", "", 0
        while True:
            if awaits_reply:
                code = None
                while not code and not lost and len(asked) < answers:
                    code = codes[len(asked)]
                    if code in BELONGS and BELONGS[code] != about:
                        code = None
                        break
                    asked.append((about, mechanism, step))
                turn = AFTER.get((about, code), a_command) if code else self.unanswered(about, at)
            if at >= size or turn is tls or (tls_comes and client.startswith(TLS_RECORD, at)):
                break
            row: Row
            if turn is a_command:
                end = client.find(b"\n", at) + 1 or size
                if lost and not _SHAPE.match(client, at):
                    row = self.fragment(at, end)
                    about, mechanism = row[3], ""
                else:
                    words = client[at:end].split(None, 1)
                    about = upper(words[0]) if words else ""
                    if about and about not in COMMANDS:
                        about = command_word(words[0], COMMANDS)
                    mechanism = mechanism_of(client[at:end]) if about == "AUTH" else ""
                    row = command, at, end, about, "", mechanism, 0
                step = 1
            elif turn is content:
                row, about = self.content(at), "."
            else:
                row = ElementKind.RESPONSE, at, line_end(client, at, size), "AUTH", "", mechanism, step
                step += 1
            rows.append(row)
            at = self.chunk(at, row[2]) if about == "BDAT" else row[2]
            if at > gap:
                lost = True
            awaits_reply = row[0] is not fragment
        if turn is tls or at < size:
            self.tls = self.plaintext_before_tls(at)
        return rows

    def fragment(self, at: int, end: int) -> Row:
        """What stands where a command is expected and is none: the rest of a message, when one ends before any command."""
        if at == 0 or at <= self.client_gap <= end:
            stop = self.terminators.after(at)
            command = _NEXT_TRANSACTION.search(self.client, at)
            if stop and not (command and command.start() < stop[0]):
                return Element(ElementKind.CONTENT, at, stop[1], "DATA")
        return Element(ElementKind.FRAGMENT, at, end)

    def chunk(self, command: int, start: int) -> int:
        """Where the octets end that follow BDAT at `start`, whatever the reply will be (RFC 3030 section 2)."""
        words = self.client[command:start].split()
        size = int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) < 20 else 0
        end = min(start + size, len(self.client))
        if end > start:
            self.rows.append(Element(ElementKind.CHUNK, start, end, "BDAT"))
        return end

    def content(self, at: int) -> Row:
        stop = self.terminators.after(at)
        end = stop[1] if stop else len(self.client)
        if at <= self.client_gap < end:  # the terminator may be among the octets that are missing
            gap = self.client_gap
            command = _AT_ONCE.match(self.client, gap, end) or _NEXT_TRANSACTION.search(self.client, gap, end)
            end = command.start() if command else end
        return ElementKind.CONTENT, at, max(end, at + 1), "DATA", "", "", 0

    def unanswered(self, about: str, at: int) -> Turn:
        """What comes next when the reply is not known: the shape of the next line tells."""
        if about in ("DATA", "AUTH") and at < len(self.client) and not _SHAPE.match(self.client, at):
            return Turn.CONTENT if about == "DATA" else Turn.RESPONSE
        return Turn.COMMAND

    def plaintext_before_tls(self, at: int) -> int:
        """Where TLS begins; what was sent between STARTTLS and it is plaintext that nobody may act on (RFC 3207 4.2)."""
        start = tls_start(self.client, at)
        for line in cut(self.client, at, start):
            self.rows.append(Element(ElementKind.FRAGMENT, *line, "STARTTLS"))
        return start

    def read_server(self) -> list[Element]:
        """The server's elements. After an accepted STARTTLS the rest is TLS, even if it does not look like it."""
        pieces, asked = self.pieces, self.asked
        if asked and AFTER.get((asked[-1][0], pieces[len(asked) - 1][1])) is Turn.TLS:
            self.server_tls = pieces[len(asked) - 1].end()
            pieces = pieces[: len(asked)]
        nobody = ("", "", 0)
        elements = []
        for number, piece in enumerate(pieces):
            about, mechanism, step = asked[number] if number < len(asked) else nobody
            start, end = piece.span()
            code = (piece[1] or piece[2] or b"").decode("ascii")
            if code == "334":
                elements.append(Element(ElementKind.CHALLENGE, start, end, about, code, mechanism, step))
            elif code:
                kind = ElementKind.GREETING if start == 0 and self.greeting else ElementKind.REPLY
                elements.append(Element(kind, start, end, about, code))
            else:
                elements.append(Element(ElementKind.FRAGMENT, start, end))
        return elements


def _pieces(server: bytes) -> tuple[list[re.Match[bytes]], int | None]:
    """What the server sent as _PIECE cuts it, and where TLS begins, if it does."""
    found = _PIECE.finditer(server)
    if TLS_RECORD not in server:
        return list(found), None
    pieces: list[re.Match[bytes]] = []
    for piece in found:
        if server.startswith(TLS_RECORD, piece.start()):
            return pieces, piece.start()
        pieces.append(piece)
    return pieces, None


# --- spans -----------------------------------------------------------------------------------------------------------


COMMANDS = {
    "EHLO": ("The client says its name and asks for the list of extensions.", "RFC 5321 section 4.1.1.1"),
    "HELO": ("The client says its name, as in the SMTP of before the extensions.", "RFC 5321 section 4.1.1.1"),
    "MAIL": ("A mail transaction begins; this is where failure notices go.", "RFC 5321 section 4.1.1.2"),
    "RCPT": ("One recipient of the message.", "RFC 5321 section 4.1.1.3"),
    "DATA": ("The client asks to send the message.", "RFC 5321 section 4.1.1.4"),
    "BDAT": ("A chunk of the message follows at once, counted in octets.", "RFC 3030 section 2"),
    "RSET": ("The mail transaction is given up; the connection stays.", "RFC 5321 section 4.1.1.5"),
    "VRFY": ("The client asks whether a mailbox exists.", "RFC 5321 section 4.1.1.6"),
    "EXPN": ("The client asks who is on a mailing list.", "RFC 5321 section 4.1.1.7"),
    "HELP": ("The client asks for help, meant for people.", "RFC 5321 section 4.1.1.8"),
    "NOOP": ("Nothing is to be done; the server just answers.", "RFC 5321 section 4.1.1.9"),
    "QUIT": ("The client says goodbye.", "RFC 5321 section 4.1.1.10"),
    "STARTTLS": ("The client asks to encrypt everything from here on.", "RFC 3207 section 4"),
    "AUTH": ("The client wants to prove who it is.", "RFC 4954 section 4"),
    "ETRN": ("The client asks the server to send the mail that waits for a domain.", "RFC 1985 section 5"),
    "TURN": ("The client asks to swap kinds; obsolete, because nobody proves anything.", "RFC 5321 appendix F.1"),
    "SEND": ("Obsolete: deliver to a terminal.", "RFC 5321 appendix F.6"),
    "SOML": ("Obsolete: deliver to a terminal or a mailbox.", "RFC 5321 appendix F.6"),
    "SAML": ("Obsolete: deliver to a terminal and a mailbox.", "RFC 5321 appendix F.6"),
}

PARAMETERS = {
    "SIZE": ("How large the message will be, in octets, as the client declares.", "RFC 1870 section 3"),
    "BODY": ("How the body is written: 7BIT, 8BITMIME or BINARYMIME.", "RFC 6152 section 2, RFC 3030 section 3"),
    "SMTPUTF8": ("Addresses or headers may be in UTF-8.", "RFC 6531 section 3.4"),
    "AUTH": (
        "Who submitted the message first, as the client vouches; <> means that it does not say.",
        "RFC 4954 section 5",
    ),
    "RET": ("Whether a failure notice should hold the whole message or its headers only.", "RFC 3461 section 4.3"),
    "ENVID": ("A name for this envelope, which notices repeat.", "RFC 3461 section 4.4"),
    "NOTIFY": ("When a delivery notice is wanted.", "RFC 3461 section 4.1"),
    "ORCPT": ("The recipient as the author first wrote it.", "RFC 3461 section 4.2"),
    "BY": ("By when the message must be delivered.", "RFC 2852 section 4"),
    "MT-PRIORITY": ("How urgent the transfer is.", "RFC 6710 section 5"),
    "REQUIRETLS": ("Every hop must use TLS.", "RFC 8689 section 2"),
    "HOLDFOR": ("Hold the message for so many seconds.", "RFC 4865 section 3"),
    "HOLDUNTIL": ("Hold the message until this time.", "RFC 4865 section 3"),
}

EXTENSIONS = {
    "SIZE": (
        "The server knows the SIZE parameter; the number is the largest message it takes, in octets.",
        "RFC 1870 section 3",
    ),
    "8BITMIME": ("Bodies may hold octets above 127.", "RFC 6152 section 2"),
    "BINARYMIME": ("Bodies may be binary, sent with BDAT.", "RFC 3030 section 3"),
    "CHUNKING": ("The server knows BDAT.", "RFC 3030 section 2"),
    "PIPELINING": ("The client may send several commands without waiting for each reply.", "RFC 2920 section 3"),
    "ENHANCEDSTATUSCODES": ("Replies carry a second, finer code.", "RFC 2034 section 3"),
    "STARTTLS": (
        "The client may ask for encryption. Whoever can change bytes on the way can strike this line out.",
        "RFC 3207 section 4",
    ),
    "AUTH": ("Mechanisms with which a client can prove who it is.", "RFC 4954 section 3"),
    "SMTPUTF8": ("Addresses and headers may be in UTF-8.", "RFC 6531 section 3.1"),
    "DSN": ("The client may ask for delivery notices.", "RFC 3461 section 4"),
    "HELP": ("The server knows HELP.", "RFC 5321 section 4.1.1.8"),
    "VRFY": ("The server knows VRFY.", "RFC 5321 section 3.5.2"),
    "EXPN": ("The server knows EXPN.", "RFC 5321 section 3.5.2"),
    "ETRN": ("The server knows ETRN.", "RFC 1985 section 5"),
    "DELIVERBY": ("The client may say by when to deliver.", "RFC 2852 section 4"),
    "MT-PRIORITY": ("The client may say how urgent a message is.", "RFC 6710 section 5"),
    "REQUIRETLS": ("The client may demand TLS on every hop.", "RFC 8689 section 2"),
    "LIMITS": ("How much the server takes in one session.", "RFC 9422 section 3"),
    "FUTURERELEASE": ("The client may ask to hold a message back.", "RFC 4865 section 3"),
    "BURL": ("The client may name a message by its URL instead of sending it.", "RFC 4468 section 3"),
    "NO-SOLICITING": ("The server takes no advertisements.", "RFC 3865 section 2"),
    "XCLIENT": ("A proxy may tell whom it speaks for; not standardised.", "Postfix XCLIENT Howto"),
    "XFORWARD": ("A filter may pass on whom it speaks for; not standardised.", "Postfix XFORWARD Howto"),
}

CODES = {
    "211": "System status, or an answer to HELP.",
    "214": "Help, meant for people.",
    "220": "The server is ready.",
    "221": "The server closes the connection.",
    "235": "The proof was accepted: the client is now known.",
    "250": "Done.",
    "251": "The mailbox is elsewhere; the server forwards the message.",
    "252": "The server does not check the mailbox, but would take the message.",
    "334": "Go on with AUTH.",
    "354": "Send the message, and end it with a line that holds a single dot.",
    "421": "The service is not available; the connection is closed.",
    "432": "A password transition is needed: one login with PLAIN lets the server store what this mechanism needs.",
    "450": "Not done: the mailbox is busy or blocked for now.",
    "451": "Not done: an error while it was being processed.",
    "452": "Not done: not enough storage, or too many recipients.",
    "454": "Not possible for the moment: TLS or the check of credentials is not available.",
    "455": "The server cannot handle the parameters now.",
    "500": "The command is not understood: unknown, or too long.",
    "501": "The arguments are not understood.",
    "502": "The command is known but not offered.",
    "503": "The commands come in the wrong order.",
    "504": "The parameter or mechanism is not offered.",
    "521": "This host takes no mail.",
    "523": "Encryption is needed before this mechanism is used.",
    "530": "The client has to prove who it is, or encrypt, first.",
    "534": "This mechanism is too weak for this account.",
    "535": "The proof was not accepted: name or password are wrong.",
    "538": "This mechanism is allowed on an encrypted connection only.",
    "550": "Not done: no such mailbox, or a rule forbids it.",
    "551": "The mailbox is elsewhere; try there.",
    "552": "Not done: too large, or no storage left.",
    "553": "The address is not allowed or not understood.",
    "554": "Refused: the transaction failed, or there is no mail service here.",
    "555": "The parameters of MAIL or RCPT are not understood.",
    "556": "The domain takes no mail.",
}
_CODE_SOURCES = {
    "235": "RFC 4954 section 6",
    "334": "RFC 4954 section 4",
    "432": "RFC 4954 section 6",
    "523": "RFC 5248 section 2.4",
}
_CODE_SOURCES |= dict.fromkeys(("454", "530", "534", "535", "538"), "RFC 4954 section 6, RFC 3207 section 4")
_CODE_SOURCES |= dict.fromkeys(("521", "556"), "RFC 7504 section 3")
_CLASSES = {
    "2": "Success.",
    "3": "Accepted so far; the client has to go on.",
    "4": "Not now: the same may work later.",
    "5": "No: the same will not work.",
}
_ENHANCED = re.compile(rb"([245])\.(\d{1,3})\.(\d{1,3})(?=[ \r\n]|\Z)")
_SUBJECTS = {
    "0": "nothing said in detail",
    "1": "the address",
    "2": "the mailbox",
    "3": "the mail system",
    "4": "the network and the routing",
    "5": "the protocol",
    "6": "the content",
    "7": "security or policy",
}
_DETAILS = {
    "1.0": "other, about an address",
    "1.1": "there is no such mailbox",
    "1.2": "there is no such domain",
    "1.3": "the recipient's address is not written as it must be",
    "1.5": "the recipient's address is valid",
    "1.6": "the mailbox has moved",
    "1.7": "the sender's address is not written as it must be",
    "1.8": "the sender's domain is not right",
    "2.0": "other, about a mailbox",
    "2.1": "the mailbox is disabled",
    "2.2": "the mailbox is full",
    "2.3": "the message is too large for the mailbox",
    "3.0": "other, about the mail system",
    "3.2": "the system takes no mail",
    "3.4": "the message is too large",
    "4.2": "the connection is bad",
    "4.7": "the time for delivery ran out",
    "5.0": "other, about the protocol",
    "5.1": "the command is not valid here",
    "5.2": "the command is not understood",
    "5.3": "too many recipients",
    "5.4": "the arguments are not valid",
    "5.6": "the line of the authentication exchange is too long",
    "6.0": "other, about the content",
    "6.7": "an address needs UTF-8, which the other side does not offer",
    "7.0": "other, about security",
    "7.1": "delivery is not permitted",
    "7.4": "the security feature is not supported",
    "7.8": "the credentials are wrong",
    "7.9": "the authentication mechanism is too weak",
    "7.10": "encryption is needed",
    "7.11": "encryption is needed for this authentication mechanism",
    "7.12": "a password transition is needed",
}
_SYNTAX = "RFC 5321 section 4.1.1"


def spans(client: bytes, server: bytes, reading: Reading) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Spans for both streams, up to where TLS takes over; `reading` is what `scan` made of the same streams."""
    return _client_spans(client, reading.client), _server_spans(server, reading.server)


def _client_spans(data: bytes, elements: list[Element]) -> tuple[Span, ...]:
    tiles = Tiles(data, 0)
    initial = 0  # whether the AUTH command itself carried the first message of the exchange
    bodies = _chunked(data, elements)
    for number, element in enumerate(elements):
        if element.kind is ElementKind.COMMAND:
            initial = _command(tiles, element)
        elif element.kind is ElementKind.RESPONSE:
            sasl.answer(tiles, element, element.step - 1 + initial)
        elif element.kind is ElementKind.CONTENT:
            inside = content(data, element.start, element.end, terminator_start(data, element.start, element.end))
            meaning = _("The message, as the client hands it over.")
            tiles.nest("smtp.content", meaning, "RFC 5321 section 4.1.1.4", inside)
        elif element.kind is ElementKind.CHUNK:
            meaning = _("A chunk of the message: {size}.").format(size=octets(element.end - element.start))
            tiles.nest("smtp.chunk", meaning, "RFC 3030 section 2", bodies[number])
        else:
            fragment(tiles, element)
    return tuple(tiles.spans)


def _chunked(data: bytes, elements: list[Element]) -> dict[int, tuple[Span, ...]]:
    """For each chunk, its part of the spans of the message that the chunks make together."""
    found: dict[int, tuple[Span, ...]] = {}
    together: list[int] = []
    for number, element in enumerate(elements):
        if element.kind is ElementKind.CHUNK:
            together.append(number)
        last = element.about == "BDAT" and element.kind is ElementKind.CHUNK and _is_last(data, elements[number - 1])
        if together and (last or number == len(elements) - 1 or element.about not in ("BDAT", "")):
            found.update(_one_message(data, elements, together))
            together = []
    return found


def _is_last(data: bytes, command: Element) -> bool:
    words = data[command.start : command.end].split()
    return len(words) > 2 and words[2].upper() == b"LAST"


def _one_message(data: bytes, elements: list[Element], chunks: list[int]) -> dict[int, tuple[Span, ...]]:
    whole = b"".join(data[elements[number].start : elements[number].end] for number in chunks)
    explained = message(whole, 0, len(whole))
    found = {}
    at = 0
    for number in chunks:
        element = elements[number]
        size = element.end - element.start
        found[number] = window(explained, at, at + size, element.start - at)
        at += size
    return found


def _command(tiles: Tiles, element: Element) -> int:
    """A command line; returns 1 when it carried an initial response of AUTH, else 0."""
    data = tiles.data
    known = COMMANDS.get(element.about)
    meaning, source = (_(known[0]), known[1]) if known else (_("A command that SMTP does not know."), _SYNTAX)
    name = element.about.lower() if known else "unknown"
    stop = without_line_end(data, element.start, element.end)
    inner = Tiles(data, element.start)
    blank = blank_end(data, element.start, stop)
    inner.add(blank, "space", _("White space."), _SYNTAX)
    verb_span(inner, word_end(data, blank, stop), f"smtp.{name}.verb", element.about, meaning, source)
    separator(inner, blank_end(data, inner.at, stop), _SYNTAX)
    initial = 0
    if inner.at < stop:
        arguments = _ARGUMENTS.get(element.about)
        if element.about == "AUTH":
            initial = sasl.arguments(inner, stop, element.mechanism)
        elif arguments:
            arguments(inner, stop)
        else:
            inner.add(stop, f"smtp.{name}.argument", _("What the command is about."), source)
    line_end_span(inner, element.end)
    tiles.nest(f"smtp.{name}", meaning, source, inner.spans, text(data[element.start : stop]))
    return initial


def _hello(tiles: Tiles, stop: int) -> None:
    meaning = _("The name that the client gives itself; nothing proves it.")
    end = word_end(tiles.data, tiles.at, stop)
    tiles.add(end, "smtp.ehlo.client", meaning, "RFC 5321 section 4.1.1.1")
    tiles.add(
        stop, "smtp.ehlo.rest", _("More than the name; the protocol does not know it."), "RFC 5321 section 4.1.1.1"
    )


_PATH = re.compile(rb"(?i)(FROM:|TO:)([ \t]*)(<(?:\"(?:[^\"\\]|\\.)*\"|[^<>\"])*>|[^ \t<>]+)?")


def _mail(tiles: Tiles, stop: int) -> None:
    meaning = _("The sender of the envelope. The server cannot know whether it is true.")
    _path(tiles, stop, "smtp.mail.sender", meaning, "RFC 5321 section 4.1.1.2")


def _recipient(tiles: Tiles, stop: int) -> None:
    meaning = _("The recipient of the envelope: this decides where the message goes.")
    _path(tiles, stop, "smtp.rcpt.recipient", meaning, "RFC 5321 section 4.1.1.3")


def _path(tiles: Tiles, stop: int, field: str, meaning: str, source: str) -> None:
    data = tiles.data
    found = _PATH.match(data, tiles.at, stop)
    if not found:
        tiles.add(stop, f"{field}.invalid", _("This is not an address as the command wants it."), source)
        return
    tiles.add(found.end(1), f"{field}.keyword", _("The rest of the command's name."), source)
    tiles.add(found.end(2), "space", _("White space, which the command does not allow here."), source)
    if found.group(3):
        _address(tiles, found.end(3), field, meaning, source)
    while tiles.at < stop:
        separator(tiles, blank_end(data, tiles.at, stop), _SYNTAX)
        if tiles.at < stop:
            _parameter(tiles, word_end(data, tiles.at, stop))


def _address(tiles: Tiles, end: int, field: str, meaning: str, source: str) -> None:
    path = tiles.data[tiles.at : end]
    bare = path[1:-1] if path.startswith(b"<") else path
    value = text(bare)
    if path == b"<>":
        meaning = _("The empty sender: a notice, to which no failure notice may be sent.")
        tiles.add(end, field, meaning, "RFC 5321 section 4.5.5", value="<>")
        return
    if path == bare:
        tiles.add(end, field, meaning, source)
        return
    inner = Tiles(tiles.data, tiles.at)
    inner.add(inner.at + 1, f"{field}.open", _("The address begins."), "RFC 5321 section 4.1.2", value="<")
    if bare.startswith(b"@") and b":" in bare:
        route = _("A way through other servers, which everybody ignores today.")
        inner.add(inner.at + bare.index(b":") + 1, f"{field}.route", route, "RFC 5321 appendix C")
    if bare.rfind(b"@") > 0:
        at = tiles.at + 1 + bare.rfind(b"@")
        inner.add(
            at,
            f"{field}.local-part",
            _("The mailbox; only its own server knows what it means."),
            "RFC 5321 section 4.1.2",
        )
        inner.add(at + 1, f"{field}.at", _("What separates mailbox and domain."), "RFC 5321 section 4.1.2")
        inner.add(end - 1, f"{field}.domain", _("The domain that the mailbox is in."), "RFC 5321 section 4.1.2")
    else:
        inner.add(end - 1, f"{field}.local-part", _("A mailbox without a domain."), "RFC 5321 section 4.1.2")
    inner.add(end, f"{field}.close", _("The address ends."), "RFC 5321 section 4.1.2", value=">")
    tiles.nest(field, meaning, source, inner.spans, value)


def _parameter(tiles: Tiles, end: int) -> None:
    data = tiles.data
    start = tiles.at
    equals = data.find(b"=", start, end)
    key_end = equals if equals >= 0 else end
    key = text(data[start:key_end]).upper()
    words, source = PARAMETERS.get(key, ("A parameter of an extension.", "RFC 5321 section 4.1.1.11"))
    field = f"smtp.parameter.{key.lower()}" if key in PARAMETERS else "smtp.parameter.other"
    inner = Tiles(data, start)
    inner.add(key_end, f"{field}.name", _(words), source)
    if equals >= 0:
        inner.add(equals + 1, f"{field}.equals", _("An equals sign."), "RFC 5321 section 4.1.2")
        inner.add(end, f"{field}.value", _(words), source)
    tiles.nest(field, _(words), source, inner.spans, text(data[key_end + 1 : end]))


def _chunk_size(tiles: Tiles, stop: int) -> None:
    end = word_end(tiles.data, tiles.at, stop)
    tiles.add(end, "smtp.bdat.size", _("How many octets follow; dots are not stuffed in them."), "RFC 3030 section 2")
    separator(tiles, blank_end(tiles.data, end, stop), _SYNTAX)
    tiles.add(stop, "smtp.bdat.last", _("LAST: this chunk ends the message."), "RFC 3030 section 2")


_ARGUMENTS = {"EHLO": _hello, "HELO": _hello, "MAIL": _mail, "RCPT": _recipient, "BDAT": _chunk_size}


def _server_spans(data: bytes, elements: list[Element]) -> tuple[Span, ...]:
    tiles = Tiles(data, 0)
    for element in elements:
        if element.kind is ElementKind.CHALLENGE:
            _challenge(tiles, element)
        elif element.kind is ElementKind.FRAGMENT:
            fragment(tiles, element)
        else:
            _reply(tiles, element)
    return tuple(tiles.spans)


def _challenge(tiles: Tiles, element: Element) -> None:
    data = tiles.data
    stop = without_line_end(data, element.start, element.end)
    inner = Tiles(data, element.start)
    inner.add(element.start + 3, "smtp.code", _(CODES["334"]), _CODE_SOURCES["334"])
    inner.add(
        min(inner.at + 1, stop),
        "smtp.separator",
        _("A space: this is the last line of the reply."),
        "RFC 5321 section 4.2.1",
    )
    inner.extend(sasl.challenge(data, inner.at, stop, element.mechanism))
    line_end_span(inner, element.end)
    meaning = _("Step {number} of {mechanism}: the server asks.").format(
        number=element.step, mechanism=element.mechanism or "AUTH"
    )
    tiles.nest("auth.challenge", meaning, "RFC 4954 section 4", inner.spans, element.mechanism)


def _reply(tiles: Tiles, element: Element) -> None:
    lines = cut(tiles.data, element.start, element.end)
    meaning, source = _code(element)
    first = _reply_line(tiles.data, *lines[0], element, number=0)
    if len(lines) == 1:
        tiles.nest(
            "smtp.greeting" if element.kind is ElementKind.GREETING else "smtp.reply",
            meaning,
            source,
            first,
            element.code,
        )
        return
    inner = Tiles(tiles.data, element.start)
    for number, (start, end) in enumerate(lines):
        spans_of_line = first if number == 0 else _reply_line(tiles.data, start, end, element, number=number)
        inner.nest(
            "smtp.reply.line", _("One line of a reply of several lines."), "RFC 5321 section 4.2.1", spans_of_line
        )
    tiles.nest(
        "smtp.greeting" if element.kind is ElementKind.GREETING else "smtp.reply",
        meaning,
        source,
        inner.spans,
        element.code,
    )


def _code(element: Element) -> tuple[str, str]:
    words = CODES.get(element.code) or _CLASSES.get(element.code[:1]) or "A code that SMTP does not have."
    return _(words), _CODE_SOURCES.get(element.code, "RFC 5321 section 4.2.3")


def _reply_line(data: bytes, start: int, end: int, element: Element, *, number: int) -> list[Span]:
    stop = without_line_end(data, start, end)
    tiles = Tiles(data, start)
    tiles.add(min(start + 3, stop), "smtp.code", *_code(element))
    more = data[tiles.at : tiles.at + 1] == b"-"
    meaning = (
        _("A hyphen: more lines of this reply follow.") if more else _("A space: this is the last line of the reply.")
    )
    tiles.add(min(tiles.at + 1, stop), "smtp.separator", meaning, "RFC 5321 section 4.2.1")
    if element.kind is ElementKind.GREETING and number == 0:
        _server_name(tiles, stop, "smtp.greeting.server", _("The name of the server."))
    elif element.about in ("EHLO", "HELO") and element.code == "250":
        if number == 0:
            _server_name(tiles, stop, "smtp.ehlo.server", _("The name of the server."))
        else:
            _extension(tiles, stop)
    else:
        _enhanced(tiles, stop, element.code)
    tiles.add(stop, "smtp.reply.text", _("Words for people; programs go by the code."), "RFC 5321 section 4.2.1")
    line_end_span(tiles, end)
    return tiles.spans


def _server_name(tiles: Tiles, stop: int, field: str, meaning: str) -> None:
    tiles.add(word_end(tiles.data, tiles.at, stop), field, meaning, "RFC 5321 section 4.2")
    tiles.add(blank_end(tiles.data, tiles.at, stop), "space", _("A space."), _SYNTAX)


_KEYWORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*")


def _extension(tiles: Tiles, stop: int) -> None:
    data = tiles.data
    found = _KEYWORD.match(data, tiles.at, stop)
    if not found:
        return
    key = text(found.group()).upper()
    words, source = EXTENSIONS.get(key, ("An extension.", "RFC 5321 section 4.1.1.1"))
    field = f"smtp.ehlo.{key.lower()}" if key in EXTENSIONS else "smtp.ehlo.other"
    inner = Tiles(data, tiles.at)
    inner.add(found.end(), f"{field}.keyword", _(words), source)
    while inner.at < stop:
        inner.add(inner.at + 1, "space", _("What separates keyword and parameters."), "RFC 5321 section 4.1.1.1")
        end = word_end(data, inner.at, stop)
        meaning = sasl.mechanism_meaning(upper(data[inner.at : end])) if key == "AUTH" else _(words)
        inner.add(end, f"{field}.parameter", meaning, source)
    tiles.nest(field, _(words), source, inner.spans, text(data[tiles.at : stop]))


def _enhanced(tiles: Tiles, stop: int, code: str) -> None:
    found = _ENHANCED.match(tiles.data, tiles.at, stop)
    if not found or text(found.group(1)) != code[:1]:
        return
    about, detail = text(found.group(2)), text(found.group(3))
    words = _DETAILS.get(f"{about}.{detail}") or _SUBJECTS.get(about) or "a subject that RFC 3463 does not name"
    kind = _(_CLASSES.get(code[:1], ""))
    meaning = _("Enhanced status code: {kind} About: {subject}.").format(kind=kind, subject=_(words))
    tiles.add(found.end(), "smtp.enhanced", meaning, "RFC 2034 section 4, RFC 3463")
    tiles.add(blank_end(tiles.data, tiles.at, stop), "space", _("A space."), _SYNTAX)


# --- the record ------------------------------------------------------------------------------------------------------


def _measure(spans: tuple[Span, ...]) -> Iterator[Measured]:
    yield from dotted(spans, "smtp.content")
    yield from _in_chunks(spans)


def _in_chunks(spans: tuple[Span, ...]) -> Iterator[Measured]:
    """The messages sent with BDAT: a message has as many octets as its chunks have together (RFC 3030 section 2)."""
    for chunked, together in groupby(spans, key=lambda span: span.field in ("smtp.bdat", "smtp.chunk")):
        found = tuple(together) if chunked else ()
        chunks = [span for span in found if span.field == "smtp.chunk"]
        if chunks:
            told = [child for span in found if span.field == "smtp.bdat" for child in span.children]
            announced = sum(whole_number(child.value) or 0 for child in told if child.field == "smtp.bdat.size")
            size = sum(span.end - span.start for span in chunks)
            whole = size == announced and any(child.field == "smtp.bdat.last" for child in told)
            yield chunks[0].start, chunks[-1].end, size, whole


SMTP = Protocol(
    name="smtp",
    label="SMTP",
    service=Service.SENDING,
    ports=Ports(clear=25, upgraded=587, tls=465, others=(2525,)),
    upgrade="STARTTLS",
    recognise=_recognise,
    scan=scan,
    commands=commands,
    replies=replies,
    spans=spans,
    begins=frozenset({"MAIL", "AUTH"}),
    continues=frozenset({"RCPT", "DATA", "BDAT"}),
    proves=frozenset({"AUTH"}),
    carries=frozenset({"BDAT"}),
    accepts=("2",),
    refuses=("4", "5"),
    personal=frozenset({"MAIL", "RCPT", "VRFY", "EXPN", "AUTH"}),
    offers=("AUTH", "STARTTLS"),
    facts={
        Fact.SENDER: ("smtp.mail.sender",),
        Fact.RECIPIENTS: ("smtp.rcpt.recipient",),
        Fact.CLIENT_NAME: ("smtp.ehlo.client",),
        Fact.SERVER_NAME: ("smtp.greeting.server", "smtp.ehlo.server"),
        Fact.MESSAGE_SIZE: ("smtp.parameter.size",),
    },
    measure=_measure,
)
