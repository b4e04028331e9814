"""Mail programs that others wrote, as data: what each can do, how it is told to do it, how its outcome is read.

A Peer is one row of `PEERS`: templates of a command line and of the files it needs. Two kinds of names stand in them: the
row's own fragments (how this program is told about TLS, about a login) and the values of one errand (host, port, password,
folder). Nothing here knows a server; `trials.py` lets these programs meet one.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from enum import StrEnum
from pathlib import Path

from labkit.mail.maildrop import canonical
from labkit.mail.policy import MECHANISMS, Security

PATIENCE = 30  # seconds for one run of a program
USER_PASS, APOP = "USER/PASS", "APOP"
NONE, STARTTLS, SSL = Security.NONE, Security.STARTTLS, Security.SSL


class Task(StrEnum):
    """What a program is used for."""

    SEND = "send"
    READ = "read"


class Refusal(StrEnum):
    """What must not succeed."""

    NO_AUTH = "no AUTH"  # the server wants AUTH (530), the program was told no login
    WRONG_PASSWORD = "wrong password"
    NO_POP = "no POP before SMTP"
    CLEARTEXT = "login without TLS"  # the server wants STARTTLS, the program was told to use none
    WRONG_NAME = "wrong-name"  # these three are named as the lab's certificates are
    EXPIRED = "expired"
    UNKNOWN_ISSUER = "unknown-issuer"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as a file of this machine: LF line ends, and a body that bites."""

    shape: str
    body: bytes

    @property
    def content(self) -> bytes:
        """Header and body."""
        return _HEADER % self.shape.encode() + self.body


_HEADER = b"""\
From: Hanako Yamada <hanako@mail.example>
To: Taro Suzuki <taro@mail.example>
Subject: %s
Date: Wed, 01 Jul 2026 12:00:00 +0900
Message-ID: <shape@mail.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

"""
LETTERS = (
    Letter("dots", b".\n..\n.a dot first\n. \nend\n.\n"),
    Letter("long lines", b"x" * 998 + b"\n." + b"y" * 997 + b"\n"),
    Letter("eight bits", "正午に駅前で\nä ö ü\nFrom here\n".encode()),
    Letter("no newline at the end", b"one line\nno newline"),
    Letter("empty body", b""),
)


@dataclass(frozen=True, slots=True)
class Errand:
    """One use of a program. way: one of its ways to log in, or None. folder: an empty one, the program's home."""

    port: int
    folder: Path
    security: Security
    way: str | None
    login: str
    password: str
    ca_file: Path | None
    letter: Letter = LETTERS[0]


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended, and everything it said."""

    code: int
    output: bytes
    said: bytes


Fragments = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Peer:
    """One program in one task.

    version: arguments that make it tell its version. command, files, stdin: templates. secure: its fragments for each kind
    of connection it can have. ways: each way to log in that it can be asked for, and its own word for it, `{word}` in
    `login`; `anonymous` stands for `login` where nobody logs in. instead: for such a way, those of which it takes
    one instead, with the same word, wherever the server offers it. sent: what it says that it sent, for a letter. fetched:
    the messages it brought, without what it is documented to add. decoded: it writes the header itself and may choose an
    encoding. redates: its copy of what it sent has a date of its own, perhaps a second later. refused: exit code and
    words for every refusal. cannot: what it cannot do by design, and why; the program is tried all the same where it can
    be asked. exposes: refusals after which its password was on the wire. remarks: what else to know about its exit codes.
    """

    name: str
    task: Task
    program: str
    version: str
    command: str
    secure: Mapping[Security, Fragments]
    ways: Mapping[str, str]
    refused: Mapping[Refusal, tuple[int, str]]
    login: Fragments = field(default_factory=dict)
    anonymous: Fragments = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""
    sent: Callable[[Path, Letter], bytes] = lambda _folder, letter: letter.content
    fetched: Callable[[Path, Result], list[bytes]] = lambda _folder, _result: []
    decoded: bool = False
    redates: bool = False
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cannot: Mapping[str, str] = field(default_factory=dict)
    exposes: frozenset[Refusal] = frozenset()
    remarks: tuple[str, ...] = ()

    def run(self, errand: Errand) -> Result:
        """Do an errand: a private home, no configuration but its own, this machine's loopback only."""
        folder = errand.folder
        fragments = {**self.secure[errand.security], **self.anonymous}
        if errand.way:
            fragments |= {name: text.replace("{word}", self.ways[errand.way]) for name, text in self.login.items()}
        values = {
            "python": sys.executable,
            "scripts": str(Path(__file__).parent),
            "host": "localhost",
            "helo": "client.example",
            "port": str(errand.port),
            "security": str(errand.security),
            "way": errand.way or "-",
            "user": errand.login,
            "password": errand.password,
            "ca": str(errand.ca_file),
            "initial": _base64(f"\0{errand.login}\0{errand.password}"),
            "username": _base64(errand.login),
            "secret": _base64(errand.password),
            "sender": "hanako@mail.example",
            "recipient": "taro@mail.example",
            "subject": errand.letter.shape,
            "message": str(folder / "message.eml"),
            "folder": str(folder),
        }
        (folder / "message.eml").write_bytes(errand.letter.content)
        (folder / "body.txt").write_bytes(errand.letter.body)
        (folder / "box").mkdir()
        for name, template in self.files.items():
            path = folder / name
            path.write_text(_filled(_filled(template, fragments), values))
            path.chmod(0o600)
        arguments = [_filled(part, values) for part in shlex.split(_filled(self.command, fragments))]
        # Not every program waits for its input's end: a file cannot break as a pipe does.
        with (folder / self.stdin if self.stdin else Path(os.devnull)).open("rb") as stdin:
            ended = subprocess.run(
                arguments, stdin=stdin, capture_output=True, timeout=PATIENCE, env=_environment(folder), cwd=folder
            )
        return Result(ended.returncode, ended.stdout, ended.stdout + ended.stderr)

    def told_version(self) -> str:
        """The version that the program tells of itself."""
        arguments = shlex.split(self.version.replace("{python}", sys.executable))
        ended = subprocess.run(arguments, capture_output=True, timeout=PATIENCE, check=False)
        found = re.search(rb"\d+(?:\.\d+)+", ended.stdout + ended.stderr)
        return found[0].decode() if found else "?"

    @property
    def is_here(self) -> bool:
        """Whether the program is installed."""
        if self.program == "aiosmtplib":
            return importlib.util.find_spec("aiosmtplib") is not None
        return shutil.which(self.program) is not None

    def spoken(self, way: str, security: Security = NONE) -> bool:
        """Whether this way to log in is one that it speaks, over a connection of this kind."""
        return way in self.ways and self.why_not(way, security) is None

    def why_not(self, way: str, security: Security = NONE) -> str | None:
        """Why it cannot log in this way, or cannot over a connection of this kind."""
        return self.cannot.get(way) or self.cannot.get(f"{way} over {security}")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Names that the values do not have stay for the next filling."""
    return re.sub(r"\{([a-z]+)\}", lambda found: values.get(found[1], found[0]), template)


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    private = {"HOME": str(folder), "USER": "hanako", "LOGNAME": "hanako", "MAIL": str(folder / "inbox")}
    return kept | private | {"LC_ALL": "C.UTF-8", "TERM": "vt100", "PYTHONDONTWRITEBYTECODE": "1"}


def body_of(content: bytes) -> bytes:
    """A message's body with its transfer encoding undone."""
    payload = message_from_bytes(content).get_payload(decode=True)
    return canonical(payload) if isinstance(payload, bytes) else b""


# What programs add, precisely

_MPOP = re.compile(rb"\AReceived: from localhost \(localhost \[127\.0\.0\.1\]\)\n\tby .*\n\tfor .*\n")
_FETCHMAIL = re.compile(rb"\AReceived: from localhost \[127\.0\.0\.1\]\n\tby .* with POP3 .*\n\tfor .*\n")
_GETMAIL = re.compile(rb"\AReturn-Path: <unknown>\nDelivered-To: unknown\nReceived: from localhost .*\n(?:[ \t].*\n)*")
_MUTT_KEEPS = re.compile(rb"^(?:Status|Content-Length|Lines): .*\n", re.MULTILINE)
_MBOX = re.compile(rb"^From \S+ +\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\n", re.MULTILINE)
_THUNDERBIRD = re.compile(
    rb"\AX-Account-Key: .*\nX-UIDL: .*\nX-Mozilla-Status: .*\nX-Mozilla-Status2: .*\nX-Mozilla-Keys: .*\n"
)
_THUNDERBIRD_SENT = re.compile(rb"\AX-Mozilla-Status: .*\nX-Mozilla-Status2: .*\n")
_NOTHING = re.compile(rb"\A")


def _swaks_sent(folder: Path, letter: Letter) -> bytes:
    """swaks puts CRLF.CRLF behind the file, whatever its end; a file that ends with a lone dot has, to swaks, its own."""
    return letter.content.removesuffix(b"\n.\n") + b"\n"


def _kept_copy(folder: Path, letter: Letter) -> bytes:
    """The copy that s-nail and mutt keep of what they sent. To an empty body mutt's copy, not its mail, adds a line."""
    (copy,) = _mbox((folder / "copy").read_bytes())
    header, end, body = _MUTT_KEEPS.sub(b"", copy).partition(b"\n\n")
    return header + end + (body if letter.body else b"")


def _mbox(text: bytes) -> list[bytes]:
    """The messages of an mbox: "From " quoted in bodies, an empty line between messages (none after an empty body)."""
    messages = []
    for message in _MBOX.split(text)[1:]:
        header, end, body = message.partition(b"\n\n")
        messages.append(header + end + re.sub(rb"^>(?=From )", b"", body.removesuffix(b"\n"), flags=re.MULTILINE))
    return messages


def _from_mbox(folder: Path, result: Result) -> list[bytes]:
    path = folder / "inbox"
    return _mbox(path.read_bytes()) if path.exists() else []


def _thunderbird(path: Path, added: re.Pattern[bytes]) -> list[bytes]:
    """The messages of one of Thunderbird's folders, an mbox with both kinds of line ends, without what must be added."""
    messages = _mbox(path.read_bytes().replace(b"\r\n", b"\n")) if path.exists() else []
    assert all(added.search(message) for message in messages), messages
    return [added.sub(b"", message) for message in messages]


def _thunderbird_sent(folder: Path, letter: Letter) -> bytes:
    (copy,) = _thunderbird(folder / "local" / "Sent", _THUNDERBIRD_SENT)
    return copy


def _thunderbird_fetched(folder: Path, result: Result) -> list[bytes]:
    return _thunderbird(folder / "mail" / "Inbox", _THUNDERBIRD)


def _from_files(added: re.Pattern[bytes] = _NOTHING) -> Callable[[Path, Result], list[bytes]]:
    """The files in the box, one a message, each without what the program adds, which must be there."""

    def fetched(folder: Path, result: Result) -> list[bytes]:
        texts = [path.read_bytes() for path in (folder / "box").rglob("*") if path.is_file()]
        assert all(added.search(text) for text in texts), texts
        return [added.sub(b"", text, count=1) for text in texts]

    return fetched


def _from_transcript(folder: Path, result: Result) -> list[bytes]:
    """What a person would cut out of a session: from the line behind "+OK n octets" to the lone dot, unstuffed."""
    answers = re.findall(rb"^\+OK \d+ octets\r\n(.*?)^\.\r\n", result.output, re.MULTILINE | re.DOTALL)
    return [re.sub(rb"^\.", b"", answer, flags=re.MULTILINE) for answer in answers]


# What several rows share

_CERTIFICATES = (Refusal.WRONG_NAME, Refusal.EXPIRED, Refusal.UNKNOWN_ISSUER)
_ITS_OWN_WORDS = {name: name for name in MECHANISMS}
_LOWER = {name: name.lower() for name in MECHANISMS}
_SECURITIES: Mapping[Security, Fragments] = {security: {} for security in Security}
_NO_SCRAM = "has no SCRAM"
_ONE_FILE_A_MESSAGE = "cat >$(mktemp {folder}/box/XXXXXXXX)"


def _certificates(code: int, *words: str) -> dict[Refusal, tuple[int, str]]:
    """The same exit code for each bad certificate, and words for the three, or one for all."""
    return {refusal: (code, words[index % len(words)]) for index, refusal in enumerate(_CERTIFICATES)}


_GNUTLS = ("The name in the certificate does not match", "uses expired certificate", "issuer is unknown")
_OPENSSL = ("hostname mismatch", "certificate has expired", "unable to get local issuer certificate")
_S_NAIL = ("certificate does not match", "certificate has expired", "unable to get local issuer certificate")
_PYTHON = ("Hostname mismatch", "certificate has expired", "unable to get local issuer certificate")
_SMTPLIB = {
    Refusal.NO_AUTH: (1, "SMTPSenderRefused: (530"),
    Refusal.WRONG_PASSWORD: (1, "SMTPAuthenticationError: (535"),
    Refusal.NO_POP: (1, "SMTPSenderRefused: (530"),
    Refusal.CLEARTEXT: (1, "SMTP AUTH extension"),
}
_SCRIPT = "{python} {scripts}/plain_python.py"
_LOGIN_ARGUMENTS = "{host} {port} {security} {way} {user} {password} {ca}"

# Mutt reads mail only on a screen: it gets a terminal of its own, and its keys from its configuration.
_TERMINAL = """{python} -c "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)" """
_MUTT = """\
set from={sender} realname="Hanako Yamada" hostname={helo} tmpdir={folder} folder={folder} record={folder}/copy copy=yes
set charset=utf-8 send_charset=us-ascii:utf-8 allow_8bit=yes wait_key=no beep=no move=no sleep_time=0
set ssl_starttls={starttls} ssl_force_tls={starttls} certificate_file={ca}
"""

# One account and the local folders, as Thunderbird's own settings would write them. No proxy answers on port 9: it is to
# speak with this machine alone. The password is not a setting: `thunderbird.py` types it.
_THUNDERBIRD_COMMAND = "{python} {scripts}/thunderbird.py {task} {folder} {password} {ca} {recipient} '{subject}'"
_THUNDERBIRD_SETTINGS = """\
user_pref("mail.accountmanager.accounts", "account1,account2");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.accountmanager.localfoldersserver", "server2");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.account.account2.server", "server2");
user_pref("mail.server.server1.type", "pop3");
user_pref("mail.server.server1.hostname", "{host}");
user_pref("mail.server.server1.port", {port});
user_pref("mail.server.server1.userName", "{user}");
user_pref("mail.server.server1.socketType", {socket});
user_pref("mail.server.server1.authMethod", {method});
user_pref("mail.server.server1.leave_on_server", true);
user_pref("mail.server.server1.check_new_mail", false);
user_pref("mail.server.server1.login_at_startup", false);
user_pref("mail.server.server1.directory", "{folder}/mail");
user_pref("mail.server.server2.type", "none");
user_pref("mail.server.server2.hostname", "Local Folders");
user_pref("mail.server.server2.userName", "nobody");
user_pref("mail.server.server2.directory", "{folder}/local");
user_pref("mail.identity.id1.fullName", "Hanako Yamada");
user_pref("mail.identity.id1.useremail", "{sender}");
user_pref("mail.identity.id1.smtpServer", "smtp1");
user_pref("mail.identity.id1.fcc_folder", "mailbox://nobody@Local%20Folders/Sent");
user_pref("mail.smtpservers", "smtp1");
user_pref("mail.smtp.defaultserver", "smtp1");
user_pref("mail.smtpserver.smtp1.type", "smtp");
user_pref("mail.smtpserver.smtp1.hostname", "{host}");
user_pref("mail.smtpserver.smtp1.port", {port});
user_pref("mail.smtpserver.smtp1.username", "{user}");
user_pref("mail.smtpserver.smtp1.try_ssl", {socket});
user_pref("mail.smtpserver.smtp1.authMethod", {method});
user_pref("mail.smtpserver.smtp1.hello_argument", "{helo}");
user_pref("mailnews.send_plaintext_flowed", false);
user_pref("marionette.port", 0);
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", 9);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", 9);
user_pref("app.update.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
"""
_THUNDERBIRD_SECURE: Mapping[Security, Fragments] = {
    NONE: {"socket": "0"},
    STARTTLS: {"socket": "2"},
    SSL: {"socket": "3"},
}
_NORMAL, _ENCRYPTED = "3", "4"  # "Normal password" and "Encrypted password" in its settings
_THUNDERBIRD_CERTIFICATES = ("SSL_ERROR_BAD_CERT_DOMAIN", "SEC_ERROR_EXPIRED_CERTIFICATE", "SEC_ERROR_UNKNOWN_ISSUER")
_THUNDERBIRD_CANNOT = {
    "LOGIN": "takes LOGIN only where PLAIN is not offered or has failed",
    "SCRAM-SHA-256": _NO_SCRAM,
}

PEERS: Sequence[Peer] = (
    Peer(
        "swaks",
        Task.SEND,
        "swaks",
        "swaks --version",
        "swaks --server {host} --port {port} --helo {helo} --from {sender} --to {recipient} --data @{message} {tls} {auth}",
        secure={
            NONE: {"tls": ""},
            STARTTLS: {"tls": "--tls --tls-verify --tls-ca-path {ca}"},
            SSL: {"tls": "--tls-on-connect --tls-verify --tls-ca-path {ca}"},
        },
        ways=_ITS_OWN_WORDS,
        login={"auth": "--auth {word} --auth-user {user} --auth-password {password}"},
        anonymous={"auth": ""},
        sent=_swaks_sent,
        refused={
            Refusal.NO_AUTH: (23, "530 5.7.0"),
            Refusal.WRONG_PASSWORD: (28, "535 5.7.8"),
            Refusal.NO_POP: (23, "530 5.7.0"),
            Refusal.CLEARTEXT: (28, "Host did not advertise authentication"),
            **_certificates(29, "certificate verify failed"),
        },
        cannot={
            "SCRAM-SHA-256": _NO_SCRAM,
            Refusal.WRONG_NAME: "checks who signed the certificate and when, but not for whom",
        },
    ),
    Peer(
        "curl",
        Task.SEND,
        "curl",
        "curl --version",
        "curl -q -sS --crlf --url {scheme}://{host}:{port}/{helo} --mail-from {sender} --mail-rcpt {recipient} -T {message} "
        "{tls} {auth}",
        secure={
            NONE: {"scheme": "smtp", "tls": ""},
            STARTTLS: {"scheme": "smtp", "tls": "--ssl-reqd --cacert {ca}"},
            SSL: {"scheme": "smtps", "tls": "--cacert {ca}"},
        },
        ways=_ITS_OWN_WORDS,
        login={"auth": "--user {user}:{password} --login-options AUTH={word}"},
        anonymous={"auth": ""},
        refused={
            Refusal.NO_AUTH: (55, "MAIL failed: 530"),
            Refusal.WRONG_PASSWORD: (67, "Login denied"),
            Refusal.NO_POP: (55, "MAIL failed: 530"),
            Refusal.CLEARTEXT: (55, "MAIL failed: 530"),
            **_certificates(60, "target host name", *_OPENSSL[1:]),
        },
        cannot={"SCRAM-SHA-256": f"{_NO_SCRAM} as Debian builds it (without GNU SASL)"},
    ),
    Peer(
        "msmtp",
        Task.SEND,
        "msmtp",
        "msmtp --version",
        "msmtp --host={host} --port={port} --domain={helo} --from={sender} {tls} {auth} {recipient}",
        secure={
            NONE: {"tls": "--tls=off"},
            STARTTLS: {"tls": "--tls=on --tls-starttls=on --tls-trust-file={ca}"},
            SSL: {"tls": "--tls=on --tls-starttls=off --tls-trust-file={ca}"},
        },
        ways=_LOWER,
        login={"auth": "--auth={word} --user={user} --passwordeval='printf %s {password}'"},
        anonymous={"auth": "--auth=off"},
        stdin="message.eml",
        refused={
            Refusal.NO_AUTH: (65, "530 5.7.0"),
            Refusal.WRONG_PASSWORD: (77, "535 5.7.8"),
            Refusal.NO_POP: (65, "530 5.7.0"),
            Refusal.CLEARTEXT: (69, "the server does not support authentication"),
            **_certificates(69, *_GNUTLS),
        },
    ),
    Peer(
        "s-nail",
        Task.SEND,
        "s-nail",
        "s-nail --version",
        "s-nail -:/ -Sv15-compat -Shostname={helo} -Sfrom={sender} -Srecord={folder}/copy -SDEAD={folder}/dead -Ssendwait "
        "-Sttycharset=utf-8 -Smime-encoding=8bit -Smta={scheme}://{account}{host}:{port} {tls} {auth} -s '{subject}' -. "
        "{recipient}",
        secure={
            NONE: {"scheme": "smtp", "tls": ""},
            STARTTLS: {
                "scheme": "smtp",
                "tls": "-Ssmtp-use-starttls -Stls-verify=strict -Stls-ca-file={ca} -Stls-ca-no-defaults",
            },
            SSL: {"scheme": "smtps", "tls": "-Stls-verify=strict -Stls-ca-file={ca} -Stls-ca-no-defaults"},
        },
        ways=_LOWER,
        login={"account": "{user}:{password}@", "auth": "-Ssmtp-auth={word}"},
        anonymous={"account": "", "auth": "-Ssmtp-auth=none"},
        stdin="body.txt",
        sent=_kept_copy,
        decoded=True,
        refused={
            Refusal.NO_AUTH: (4, "530 5.7.0"),
            Refusal.WRONG_PASSWORD: (4, "535 5.7.8"),
            Refusal.NO_POP: (4, "530 5.7.0"),
            Refusal.CLEARTEXT: (4, "538 5.7.11"),
            **_certificates(4, *_S_NAIL),
        },
        cannot={"SCRAM-SHA-256": _NO_SCRAM},
    ),
    Peer(
        "mutt",
        Task.SEND,
        "mutt",
        "mutt -v",
        "mutt -n -F rc -s '{subject}' -- {recipient}",
        secure={
            NONE: {"scheme": "smtp", "starttls": "no"},
            STARTTLS: {"scheme": "smtp", "starttls": "yes"},
            SSL: {"scheme": "smtps", "starttls": "no"},
        },
        ways=_LOWER,
        login={"account": "{user}@", "auth": 'smtp_authenticators="{word}"'},
        anonymous={"account": "", "auth": ""},
        files={"rc": _MUTT + "set smtp_url={scheme}://{account}{host}:{port}/ smtp_pass={password} {auth}\n"},
        stdin="body.txt",
        sent=_kept_copy,
        decoded=True,
        redates=True,
        refused={
            Refusal.NO_AUTH: (1, "530 5.7.0"),
            Refusal.WRONG_PASSWORD: (1, "SASL authentication failed"),
            Refusal.NO_POP: (1, "530 5.7.0"),
            Refusal.CLEARTEXT: (1, "530 5.7.0 Must issue a STARTTLS command first"),
            **_certificates(1, "Untrusted server certificate"),
        },
    ),
    Peer(
        "Thunderbird",
        Task.SEND,
        "thunderbird",
        "thunderbird --version",
        _THUNDERBIRD_COMMAND.replace("{task}", "send"),
        secure=_THUNDERBIRD_SECURE,
        ways={"PLAIN": _NORMAL, "CRAM-MD5": _ENCRYPTED},
        login={"method": "{word}"},
        anonymous={"method": "1"},
        files={"user.js": _THUNDERBIRD_SETTINGS},
        sent=_thunderbird_sent,
        decoded=True,
        refused={
            Refusal.NO_AUTH: (1, "530 Authentication required"),
            Refusal.WRONG_PASSWORD: (1, "535 Authentication credentials invalid"),
            Refusal.NO_POP: (1, "530 Read your mail first"),
            Refusal.CLEARTEXT: (1, "530 Must issue a STARTTLS command first"),
            **_certificates(1, *_THUNDERBIRD_CERTIFICATES),
        },
        cannot=_THUNDERBIRD_CANNOT,
    ),
    Peer(
        "Python smtplib",
        Task.SEND,
        sys.executable,
        "{python} --version",
        f"{_SCRIPT} smtplib {_LOGIN_ARGUMENTS} {{sender}} {{recipient}} {{message}}",
        secure=_SECURITIES,
        ways={name: name for name in MECHANISMS if name != "SCRAM-SHA-256"},
        refused=_SMTPLIB | _certificates(1, *_PYTHON),
        cannot={"SCRAM-SHA-256": _NO_SCRAM},
    ),
    Peer(
        "aiosmtplib",
        Task.SEND,
        "aiosmtplib",
        "{python} -c 'import aiosmtplib; print(aiosmtplib.__version__)'",
        f"{_SCRIPT} aiosmtplib {_LOGIN_ARGUMENTS} {{sender}} {{recipient}} {{message}}",
        secure=_SECURITIES,
        ways={name: name for name in MECHANISMS if name != "SCRAM-SHA-256"},
        refused=_SMTPLIB | _certificates(1, *_PYTHON),
        cannot={"SCRAM-SHA-256": _NO_SCRAM},
    ),
    Peer(
        "curl",
        Task.READ,
        "curl",
        "curl --version",
        f"curl -q -sS --fail-early --url {{scheme}}://{{host}}:{{port}}/[1-{len(LETTERS)}] -o {{folder}}/box/#1 "
        "{tls} {auth}",
        secure={
            NONE: {"scheme": "pop3", "tls": ""},
            STARTTLS: {"scheme": "pop3", "tls": "--ssl-reqd --cacert {ca}"},
            SSL: {"scheme": "pop3s", "tls": "--cacert {ca}"},
        },
        ways={APOP: "+APOP"} | _ITS_OWN_WORDS,
        login={"auth": "--user {user}:{password} --login-options AUTH={word}"},
        fetched=_from_files(),
        refused={
            Refusal.WRONG_PASSWORD: (67, "Authentication failed"),
            Refusal.CLEARTEXT: (67, "Authentication failed"),
            **_certificates(60, "target host name", *_OPENSSL[1:]),
        },
        cannot={
            "SCRAM-SHA-256": f"{_NO_SCRAM} as Debian builds it (without GNU SASL)",
            USER_PASS: "prefers AUTH and APOP, and takes USER only where it can use neither",
        },
    ),
    Peer(
        "mpop",
        Task.READ,
        "mpop",
        "mpop --version",
        "mpop -C rc",
        secure={
            NONE: {"tls": "tls off"},
            STARTTLS: {"tls": "tls on\ntls_starttls on\ntls_trust_file {ca}"},
            SSL: {"tls": "tls on\ntls_starttls off\ntls_trust_file {ca}"},
        },
        ways={USER_PASS: "user", APOP: "apop"} | _LOWER,
        login={"auth": "auth {word}\nuser {user}\npassword {password}"},
        files={
            "rc": "defaults\n{tls}\nuidls_file {folder}/uidls\nkeep on\n"
            f'delivery mda "{_ONE_FILE_A_MESSAGE}"\n'
            "account default\nhost {host}\nport {port}\n{auth}\n"
        },
        fetched=_from_files(_MPOP),
        refused={
            Refusal.WRONG_PASSWORD: (77, "[AUTH] Login failed"),
            Refusal.CLEARTEXT: (77, "Encryption required"),
            **_certificates(69, *_GNUTLS),
        },
        exposes=frozenset({Refusal.CLEARTEXT}),
    ),
    Peer(
        "fetchmail",
        Task.READ,
        "fetchmail",
        "fetchmail --version",
        "fetchmail -f rc --nodetach --nosyslog",
        secure={
            NONE: {"tls": "sslproto ''"},
            STARTTLS: {"tls": "sslproto 'TLS1.2+' sslcertfile '{ca}' sslcertck"},
            SSL: {"tls": "ssl sslproto 'TLS1.2+' sslcertfile '{ca}' sslcertck"},
        },
        ways={USER_PASS: "proto POP3 auth password", APOP: "proto APOP", "CRAM-MD5": "proto POP3 auth cram-md5"},
        login={"auth": "{word} user {user} password {password}"},
        files={
            "rc": "set idfile {folder}/ids\nset pidfile {folder}/pid\n"
            f'poll {{host}} service {{port}} {{auth}} keep fetchall {{tls}} mda "{_ONE_FILE_A_MESSAGE}"\n'
        },
        fetched=_from_files(_FETCHMAIL),
        refused={
            Refusal.WRONG_PASSWORD: (3, "Authorization failure"),
            Refusal.CLEARTEXT: (3, "Authorization failure"),
            **_certificates(2, *_OPENSSL),
        },
        cannot={name: "has only CRAM-MD5 of these mechanisms" for name in MECHANISMS if name != "CRAM-MD5"}
        | {"APOP over starttls": "never says STLS when told to use APOP, and sends the digest in the clear"},
    ),
    Peer(
        "getmail6",
        Task.READ,
        "getmail",
        "getmail --version",
        "getmail --getmaildir . --rcfile rc",
        secure={
            NONE: {"kind": "SimplePOP3Retriever", "tls": ""},
            SSL: {"kind": "SimplePOP3SSLRetriever", "tls": "ca_certs={ca}"},
        },
        ways={USER_PASS: "false", APOP: "true"},
        login={"auth": "use_apop={word}\nusername={user}\npassword={password}"},
        files={
            "rc": "[retriever]\ntype={kind}\nserver={host}\nport={port}\n{auth}\n{tls}\n"
            f'[destination]\ntype=MDA_external\npath=/bin/sh\narguments=("-c", "{_ONE_FILE_A_MESSAGE}")\n'
            "allow_root_commands=true\n[options]\nread_all=true\ndelete=false\n"
        },
        fetched=_from_files(_GETMAIL),
        refused={
            Refusal.WRONG_PASSWORD: (127, "[AUTH] Login failed"),
            Refusal.CLEARTEXT: (127, "Encryption required"),
            **_certificates(127, "doesn't match", *_PYTHON[1:]),
        },
        cannot={STARTTLS: "has no STLS"} | dict.fromkeys(MECHANISMS, "has no AUTH with a password"),
    ),
    Peer(
        "s-nail",
        Task.READ,
        "s-nail",
        "s-nail --version",
        "s-nail -:/ -Sv15-compat -SDEAD={folder}/dead -SMBOX={folder}/mbox -Spop3-bulk-load {tls} {auth} -R "
        "-Y 'copy * {folder}/inbox' -Y x -f {scheme}://{user}:{password}@{host}:{port}",
        secure={
            NONE: {"scheme": "pop3", "tls": ""},
            STARTTLS: {
                "scheme": "pop3",
                "tls": "-Spop3-use-starttls -Stls-verify=strict -Stls-ca-file={ca} -Stls-ca-no-defaults",
            },
            SSL: {"scheme": "pop3s", "tls": "-Stls-verify=strict -Stls-ca-file={ca} -Stls-ca-no-defaults"},
        },
        ways={USER_PASS: "-Spop3-no-apop", APOP: ""},
        login={"auth": "{word}"},
        fetched=_from_mbox,
        refused={
            Refusal.WRONG_PASSWORD: (1, "[AUTH] Login failed"),
            Refusal.CLEARTEXT: (1, "Encryption required"),
            **_certificates(1, *_S_NAIL),
        },
        cannot=dict.fromkeys(MECHANISMS, "has no AUTH with a password in POP3"),
    ),
    Peer(
        "mutt",
        Task.READ,
        "mutt",
        "mutt -v",
        _TERMINAL + "mutt -n -F rc -f {folder}/inbox",
        secure={
            NONE: {"scheme": "pop", "starttls": "no"},
            STARTTLS: {"scheme": "pop", "starttls": "yes"},
            SSL: {"scheme": "pops", "starttls": "no"},
        },
        ways={USER_PASS: "user", APOP: "apop"} | _LOWER,
        login={"auth": 'pop_user={user} pop_pass={password} pop_authenticators="{word}"'},
        files={
            "inbox": "",
            "keys": "rrr",
            "rc": _MUTT + "set pop_host={scheme}://{host}:{port} {auth} pop_delete=no spoolfile={folder}/inbox\n"
            'push "<fetch-mail><exit><exit><exit>"\n',
        },
        stdin="keys",
        fetched=_from_mbox,
        # A full-screen program ends well whatever happened on its screen; an uncertain certificate is shown, to be rejected.
        refused={Refusal.WRONG_PASSWORD: (0, ""), Refusal.CLEARTEXT: (0, "")}
        | _certificates(0, "This certificate belongs to"),
        remarks=("is a full-screen program: it ends with 0 whatever happened on its screen",),
    ),
    Peer(
        "Thunderbird",
        Task.READ,
        "thunderbird",
        "thunderbird --version",
        _THUNDERBIRD_COMMAND.replace("{task}", "read"),
        secure=_THUNDERBIRD_SECURE,
        ways={"PLAIN": _NORMAL, "CRAM-MD5": _ENCRYPTED, USER_PASS: _NORMAL, APOP: _ENCRYPTED},
        login={"method": "{word}"},
        files={"user.js": _THUNDERBIRD_SETTINGS},
        instead={USER_PASS: ("PLAIN", "LOGIN"), APOP: ("CRAM-MD5",)},
        fetched=_thunderbird_fetched,
        refused={
            Refusal.WRONG_PASSWORD: (1, "[AUTH] Login failed"),
            Refusal.CLEARTEXT: (1, "Encryption required"),
            **_certificates(1, *_THUNDERBIRD_CERTIFICATES),
        },
        cannot=_THUNDERBIRD_CANNOT,
    ),
    Peer(
        "openssl s_client",
        Task.READ,
        "openssl",
        "openssl version",
        "openssl s_client -connect {host}:{port} -crlf -quiet -CAfile {ca} -verify_return_error "
        "-verify_hostname {host} {tls}",
        secure={STARTTLS: {"tls": "-starttls pop3"}, SSL: {"tls": ""}},
        ways={
            USER_PASS: "USER {user}\nPASS {password}",
            "PLAIN": "AUTH PLAIN {initial}",
            "LOGIN": "AUTH LOGIN\n{username}\n{secret}",
        },
        login={"auth": "{word}"},
        files={"typed": "{auth}\n" + "".join(f"RETR {n + 1}\n" for n in range(len(LETTERS))) + "QUIT\n"},
        stdin="typed",
        fetched=_from_transcript,
        refused={Refusal.WRONG_PASSWORD: (0, "-ERR [AUTH] Login failed"), **_certificates(1, *_OPENSSL)},
        cannot={
            NONE: "speaks nothing but TLS",
            Refusal.CLEARTEXT: "speaks nothing but TLS",
            **dict.fromkeys(
                (APOP, "CRAM-MD5", "SCRAM-SHA-256"), "sends what was typed beforehand: no answer to a challenge"
            ),
        },
    ),
    Peer(
        "Python poplib",
        Task.READ,
        sys.executable,
        "{python} --version",
        f"{_SCRIPT} poplib {_LOGIN_ARGUMENTS} {{folder}}/box",
        secure=_SECURITIES,
        ways={USER_PASS: USER_PASS, APOP: APOP},
        fetched=_from_files(),
        refused={
            Refusal.WRONG_PASSWORD: (1, "[AUTH] Login failed"),
            Refusal.CLEARTEXT: (1, "Encryption required"),
            **_certificates(1, *_PYTHON),
        },
        cannot=dict.fromkeys(MECHANISMS, "has no AUTH"),
    ),
)
