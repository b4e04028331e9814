"""Mail programs, from 1998 to today, each tried out at each kind of provider.

A MailProgram says what one can do, as data. `try_out` lets it send and read at a provider with the best of that, for real,
and records: whether the two are compatible is what happened, and what leaks is what the capture gives away.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from markupsafe import Markup

from labkit.attack import Impersonate
from labkit.capture import Capture
from labkit.decode.exposure import Fact, Verdict
from labkit.errors import BadSetting, LabError
from labkit.mail.client import MailClient
from labkit.mail.policy import POLICIES, Policy, Security
from labkit.mail.sample import sample_message
from labkit.mail.settings import Settings
from labkit.provider import Provider
from labkit.show.marks import Style, legend, legend_text, style
from labkit.show.safe import block, grid
from labkit.show.view import View, render, table
from labkit.texts import N_, _

# Seconds. A program that begins in the clear and a server that begins with TLS wait for each other for ever.
PATIENCE = 0.1
STRANGER = "stranger"
TEXT_COLUMNS = 30
_COULD = {
    (True, True): N_("both"),
    (False, True): N_("reads"),
    (True, False): N_("sends"),
    (False, False): N_("nothing"),
}


@dataclass(frozen=True, slots=True)
class MailProgram:
    """What a mail program can do.

    security: kinds of connection, "none", "starttls" or "ssl", the preferred one first. mechanisms: with which it can log in
    to send, the preferred one first; none when it has no SMTP AUTH. reads_first: it reads mail before it sends.
    verify_certificate: it stops at a certificate that is not the server's. Raises BadSetting for what no program can do.
    """

    name: str
    security: tuple[str, ...] = ("none",)
    mechanisms: tuple[str, ...] = ()
    reads_first: bool = False
    verify_certificate: bool = True

    def __post_init__(self) -> None:
        for field in ("security", "mechanisms"):
            value = getattr(self, field)  # one word is as good as a tuple of it
            object.__setattr__(self, field, (value,) if isinstance(value, str) else tuple(value))
        if not self.security or not set(self.security) <= set(Security):
            message = _("A program connects in one or more of these ways: {names}. Name them in `security`.")
            raise BadSetting(message.format(names=", ".join(Security)))

    def settings(self, provider: Provider) -> Settings:
        """The best that the program can be set to for hanako's account at a provider."""
        policy, wanted = provider.policy, provider.settings("hanako")
        security = policy.security if policy.security in self.security else Security(self.security[0])
        silent = security is not Security.SSL and policy.security is Security.SSL
        common = [name for name in self.mechanisms if name in policy.mechanisms] or list(self.mechanisms)
        return replace(
            wanted,
            security=security,
            outgoing_requires_authentication=policy.auth_required and bool(self.mechanisms),
            mechanism=common[0] if common else "PLAIN",
            check_mail_first=self.reads_first,
            verify_certificate=self.verify_certificate,
            timeout=PATIENCE if silent else wanted.timeout,
        )


PROGRAMS = (
    MailProgram("1998, no login to send"),
    MailProgram("1999, reads mail first", reads_first=True),
    MailProgram("2001, SMTP AUTH", mechanisms=("PLAIN", "LOGIN")),
    MailProgram("2005, SSL without checks", ("ssl", "none"), ("PLAIN", "LOGIN"), verify_certificate=False),
    MailProgram("today", ("ssl", "starttls"), ("SCRAM-SHA-256", "PLAIN")),
)

# From permissive to strict, by the name of the column.
PROVIDERS: Mapping[str, Policy] = {
    "plaintext": POLICIES["plaintext"],
    "POP first": POLICIES["pop-before-smtp"],
    "SMTP AUTH": POLICIES["smtp-auth"],
    "STARTTLS": POLICIES["starttls"],
    "SSL": POLICIES["ssl"],
    "SSL + SCRAM": replace(POLICIES["ssl"], name="strict", mechanisms=("SCRAM-SHA-256",)),
    STRANGER: POLICIES["ssl"],
}


@dataclass(frozen=True, slots=True)
class Compatibility:
    """What came of a program and a provider. leaks: the most that somebody on the way gets of password or letter.

    At the stranger's, a machine that shows a wrong certificate and passes everything on, it is what that machine reads.
    """

    sends: bool
    reads: bool
    leaks: Verdict

    @property
    def style(self) -> Style:
        """The verdict's mark and colours, with what the program could do for its word."""
        return replace(style(self.leaks), name=_COULD[self.sends, self.reads])


class CompatibilityMatrix(View):
    """Programs against providers: a table, and each field of it by the names of program and provider."""

    def __init__(self, tried: Mapping[tuple[str, str], Compatibility]) -> None:
        self.title = _("Which program can talk to which provider, and what leaks")
        self._tried = dict(tried)

    def __getitem__(self, names: tuple[str, str]) -> Compatibility:
        return self._tried[names]

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs' names, in order."""
        return tuple(dict.fromkeys(program for program, _provider in self._tried))

    def of(self, program: str) -> Mapping[str, Compatibility]:
        """What came of one program, by provider."""
        return {provider: tried for (name, provider), tried in self._tried.items() if name == program}

    @property
    def rows(self) -> tuple[tuple[str, tuple[Style, ...]], ...]:
        """For each program, what came of it at each provider."""
        return tuple((name, tuple(tried.style for tried in self.of(name).values())) for name in self.programs)

    @property
    def styles(self) -> tuple[Style, ...]:
        """The marks that occur, with their own words."""
        return legend(style(tried.leaks) for tried in self._tried.values())

    def text(self) -> str:
        head = (_("Mail program"), *PROVIDERS)
        table = [head, *((name, *(cell.label for cell in cells)) for name, cells in self.rows)]
        return block([self.title, "", *grid(table, (TEXT_COLUMNS,) * len(head)), "", legend_text(self.styles)])

    def body(self) -> Markup:
        shown = table(self.title, (_("Mail program"), *PROVIDERS), ((name, *cells) for name, cells in self.rows))
        return shown + render("legend.html", {"styles": self.styles})


def try_out(*programs: MailProgram) -> CompatibilityMatrix:
    """Let programs (those of PROGRAMS when none is named) send and read at every provider, for real."""
    return CompatibilityMatrix(
        {(program.name, name): _visit(program, name) for program in programs or PROGRAMS for name in PROVIDERS}
    )


def _visit(program: MailProgram, name: str) -> Compatibility:
    with Provider(PROVIDERS[name], repeatable=True) as provider:
        settings = program.settings(provider)
        if name != STRANGER:
            with provider.capture() as capture:
                could = _tried(settings, provider)
            return Compatibility(*could, _leaks(capture))
        with Impersonate(provider, "wrong-name") as middle:
            could = _tried(replace(settings, smtp_port=middle.smtp_port, pop3_port=middle.pop3_port), provider)
        return Compatibility(*could, _leaks(middle.read))


def _tried(settings: Settings, provider: Provider) -> tuple[bool, bool]:
    """Whether a letter to herself reached hanako's maildrop, and whether she could read what is there."""
    client, hanako = MailClient(settings), provider.accounts["hanako"]
    with suppress(LabError):
        client.send(sample_message(hanako, hanako))
    sends = bool(provider.maildrops["hanako"].messages())
    with suppress(LabError):
        client.receive()
        return sends, True
    return sends, False


def _leaks(capture: Capture) -> Verdict:
    return min((capture.findings[fact].verdict for fact in (Fact.PASSWORD, Fact.TEXT)), key=list(Verdict).index)
