"""The lab in a terminal: the same capabilities as the notebooks, for people and for scripts.

Exit codes: 0 done, 1 done and something is wrong (doctor), 2 could not be done as asked, with one sentence that says why.
Heavy modules are imported inside the commands, so that `labkit --help` answers at once.
"""

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

import labkit
from labkit import files
from labkit.errors import BadSetting, LabError
from labkit.texts import _

ENGINES = click.Choice(["auto", "tap", "live"])


class LabGroup(click.Group):
    """Turns a user's mistake into one sentence and exit code 2."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(context)
        except LabError as error:
            click.echo(f"labkit: {error}", err=True)
            raise SystemExit(2) from None
        except BrokenPipeError:
            raise SystemExit(0) from None


@click.group(cls=LabGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(labkit.__version__, prog_name="labkit")
def main() -> None:
    """See what mail looks like on the wire: real servers, real clients, real captures, on this machine only."""


def _write(text: str, output: Path | None) -> None:
    """To the file that was named, else to the terminal."""
    if output is None:
        click.echo(text)
        return
    try:
        files.write(output, text)
    except OSError as error:
        raise BadSetting(_("{path} cannot be written: {why}.").format(path=output, why=error.strerror)) from None


def _json(data: Any, indent: int | None = 2) -> str:
    """JSON that people can read, but in which nothing from the wire acts on a terminal: that is written as escapes."""
    plain = json.dumps(data, ensure_ascii=False, indent=indent)
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
        for character in plain
    )


@main.command()
@click.argument("policies", nargs=-1, metavar="[POLICY]...")
@click.option("--engine", type=ENGINES, default="auto", show_default=True, help="What records the packets.")
@click.option("--format", "style", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write there instead of the terminal.")
@click.option(
    "--pcap", type=click.Path(path_type=Path, file_okay=False), help="Save each session as DIR/POLICY.pcapng."
)
def compare(policies: tuple[str, ...], engine: str, style: str, output: Path | None, pcap: Path | None) -> None:
    """Run one exchange under each POLICY and put the sessions side by side.

    The same message is sent and read under plaintext, smtp-auth, pop-before-smtp and ssl, when no policy is named.

    \b
    Example: labkit compare plaintext ssl --format html --output comparison.html
    """
    comparison = labkit.compare(*policies, engine=engine)
    faces: Mapping[str, Callable[[], str]] = {
        "text": lambda: comparison.text(exact=True),
        "json": lambda: _json(comparison.report()),
        "html": comparison.page,
    }
    if pcap is not None:
        comparison.save(pcap)
    _write(faces[style](), output)


def _decode_as(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[int, str]:
    """PORT=PROTOCOL, as click hands it over."""
    chosen = {}
    for value in values:
        port, _equals, protocol = value.partition("=")
        if not port.isdecimal() or not 0 < int(port) < 65536 or protocol not in {"smtp", "pop3", "smtps", "pop3s"}:
            raise click.BadParameter(
                _("{value!r} is not PORT=smtp, pop3, smtps or pop3s, such as 2525=smtp.").format(value=value)
            )
        chosen[int(port)] = protocol
    return chosen


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(_("reading {name}").format(name=path.name), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--keylog", type=click.Path(path_type=Path), help="TLS keys in NSS format (SSLKEYLOGFILE): opens what they fit."
)
@click.option(
    "--decode-as", multiple=True, metavar="PORT=PROTOCOL", callback=_decode_as, help="smtp, pop3, smtps or pop3s."
)
@click.option("--format", "style", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write there instead of the terminal.")
def read(file: Path, keylog: Path | None, decode_as: dict[int, str], style: str, output: Path | None) -> None:
    """Explain any mail capture: pcap or pcapng, from labkit, Wireshark or tcpdump.

    \b
    Example: labkit read session.pcapng --keylog keys.txt --decode-as 2525=smtp
    """
    with _progress(file) as progress:
        capture = labkit.Capture.load(file, decode_as=decode_as, progress=progress)
    if keylog is not None or capture.keylog:
        capture = capture.unlock(keylog)
    faces: Mapping[str, Callable[[], str]] = {
        "text": lambda: "\n".join([*capture.notes, capture.dialogue.whole().text(), "", capture.exposure.text()]),
        "json": lambda: _json(capture.report()),
        "html": capture.page,
    }
    _write(faces[style](), output)


def _how_to_set_up(provider: Any) -> str:
    """What to type into a mail program."""
    policy = provider.policy
    security = {"none": _("none"), "starttls": "STARTTLS", "ssl": "SSL/TLS"}[policy.security.value]
    rows = [
        _("A mail provider is running on this machine, policy {policy}.").format(policy=policy.name),
        "",
        _("  server           {host} for both").format(host=provider.host),
        _("  outgoing (SMTP)  port {port}, connection security {security}").format(
            port=provider.smtp_port, security=security
        ),
        _("  incoming (POP3)  port {port}, connection security {security}").format(
            port=provider.pop3_port, security=security
        ),
        _("  my outgoing server requires authentication: {answer}").format(
            answer=_("yes") if policy.auth_required else _("no")
        ),
    ]
    if policy.pop_window is not None:
        minutes = policy.pop_window.total_seconds() / 60
        rows.append(_("  check mail before sending: yes, it is good for {minutes:g} minutes").format(minutes=minutes))
    if provider.ca_file is not None:
        rows.append(_("  trust this certificate authority: {path}").format(path=provider.ca_file))
    rows.append("")
    rows += [
        _("  {address}  login name {login}  password {password}").format(
            address=account.address, login=account.login, password=account.password
        )
        for account in provider.accounts.values()
    ]
    return "\n".join([*rows, "", _("Stop it with Ctrl-C.")])


def _for_scripts(provider: Any) -> str:
    return json.dumps(
        {
            "host": provider.host,
            "smtp_port": provider.smtp_port,
            "pop3_port": provider.pop3_port,
            "policy": provider.policy.name,
            "ca": None if provider.ca_file is None else str(provider.ca_file),
            "accounts": [
                {"address": account.address, "login": account.login, "password": account.password}
                for account in provider.accounts.values()
            ],
        },
        ensure_ascii=False,
    )


@contextmanager
def _saved(capture: labkit.Capture, pcap: Path | None) -> Iterator[None]:
    """Save the capture however its session ends: also when whoever read the dialogue has gone."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):  # the other end of a pipe is closed, or the terminal
            raise
        if pcap is not None:
            message = _("Nobody reads the dialogue any more: the server stops, and the session goes into {path}.")
            with suppress(OSError):
                click.echo(message.format(path=pcap), err=True)
        raise BrokenPipeError from None
    finally:
        if pcap is not None:
            capture.save(pcap)


class _Follower:
    """Prints the lines that a running capture has got since it was last asked."""

    def __init__(self, capture: labkit.Capture, style: str) -> None:
        self._capture = capture
        self._style = style
        self._packets = 0
        self._octets: dict[int, int] = {}
        self._printed: dict[int, int] = {}

    def print_new(self) -> None:
        """One line each: the connection's number, who spoke, the mark, the text."""
        packets = len(self._capture.frames)
        if packets == self._packets:
            return
        self._packets = packets
        for conversation in self._capture.flows:
            flow = conversation.flow
            octets = len(flow.client_stream.data) + len(flow.server_stream.data)
            if octets == self._octets.get(flow.number):
                continue
            self._octets[flow.number] = octets
            # A line without its end may still grow: it is printed when the next one has begun, or the connection ends.
            lines = conversation.lines
            complete = len(lines) if flow.closed or self._ends_a_line(conversation) else len(lines) - 1
            for line in lines[self._printed.get(flow.number, 0) : complete]:
                click.echo(self._shown(flow.number, line))
            self._printed[flow.number] = max(complete, self._printed.get(flow.number, 0))
        sys.stdout.flush()

    @staticmethod
    def _ends_a_line(conversation: Any) -> bool:
        last = conversation.flow.bursts[-1:]
        return all(conversation.flow.stream(burst.side).data[: burst.end].endswith(b"\n") for burst in last)

    def _shown(self, number: int, line: Any) -> str:
        from labkit.show.marks import style_of
        from labkit.show.safe import visible

        if self._style == "json":
            told = {
                "flow": number,
                "side": line.side,
                "kind": line.kind,
                "visibility": line.visibility,
                "text": line.text,
            }
            return _json(told, indent=None)  # a line each
        return f"{number:3} {line.side.value[0].upper()}: {style_of(line).mark} {visible(line.text)}"


@main.command()
@click.argument("policy")
@click.option("--smtp-port", type=click.IntRange(0, 65535), default=0, help="A free one when not given.")
@click.option("--pop3-port", type=click.IntRange(0, 65535), default=0, help="A free one when not given.")
@click.option("--pcap", type=click.Path(path_type=Path, dir_okay=False), help="Save the traffic there when it stops.")
@click.option(
    "--maildir", type=click.Path(path_type=Path, file_okay=False), help="Keep the mail there, one folder an account."
)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def serve(policy: str, smtp_port: int, pop3_port: int, pcap: Path | None, maildir: Path | None, style: str) -> None:
    """Run a provider under POLICY for any mail program on this machine, and show the dialogue live.

    \b
    Example: labkit serve starttls --smtp-port 2587 --pop3-port 2110 --pcap session.pcapng
    """
    from labkit.wire.pcap import refuse_unwritable

    if pcap is not None:
        refuse_unwritable(pcap)
    stopped = threading.Event()
    for name in _stopping():
        signal.signal(name, lambda *_signal: stopped.set())
    provider = labkit.Provider(policy, smtp_port=smtp_port, pop3_port=pop3_port, maildir=maildir)
    with provider:
        capture = provider.capture()
        with _saved(capture, pcap):
            with capture:
                click.echo(_for_scripts(provider) if style == "json" else _how_to_set_up(provider))
                sys.stdout.flush()
                follow = _Follower(capture, style)
                while not stopped.wait(0.2):
                    follow.print_new()
            follow.print_new()


def _stopping() -> Iterator[signal.Signals]:
    """The signals that stop a server: Ctrl-C, a supervisor's, a terminal that is closed, unless nohup said to go on."""
    yield from (signal.SIGINT, signal.SIGTERM)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        yield signal.SIGHUP


@main.command()
@click.argument("host")
@click.option("--smtp-port", "smtp_ports", multiple=True, type=click.IntRange(1, 65535), help="Instead of 587 and 465.")
@click.option("--pop3-port", "pop3_ports", multiple=True, type=click.IntRange(1, 65535), help="Instead of 110 and 995.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds for each port."
)
@click.option("--ca", type=click.Path(path_type=Path, dir_okay=False), help="Trust this PEM file, not the system's.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write there instead of the terminal.")
def probe(
    host: str,
    smtp_ports: tuple[int, ...],
    pop3_ports: tuple[int, ...],
    timeout: float,
    ca: Path | None,
    style: str,
    output: Path | None,
) -> None:
    """Ask what the mail provider HOST offers: one polite connection to each port, and never a credential.

    \b
    Example: labkit probe mail.example --smtp-port 587 --format json
    """
    try:
        trusted = None if ca is None else ca.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise BadSetting(_("{path} cannot be read: {why}.").format(path=ca, why=error.strerror)) from None
    card = labkit.probe(
        host, smtp_ports=smtp_ports or None, pop3_ports=pop3_ports or None, timeout=timeout, trusted_ca=trusted
    )
    _write(_json(card.report()) if style == "json" else card.text(), output)


@main.command()
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(style: str) -> None:
    """Say what this machine can do: Python, packages, capture engines, fonts, TLS.

    \b
    Example: labkit doctor --format json
    """
    from labkit.doctor import examine

    checks = list(examine())
    healthy = all(check.ok for check in checks if check.needed)
    if style == "json":
        listed = [
            {"name": check.name, "ok": check.ok, "needed": check.needed, "detail": check.detail} for check in checks
        ]
        click.echo(_json({"ok": healthy, "checks": listed}))
    else:
        for check in checks:
            word = _("ok") if check.ok else _("MISSING") if check.needed else _("not here")
            click.echo(f"{word:8}  {check.name:13}  {check.detail}")
        click.echo(
            _("The lab works here.") if healthy else _("The lab cannot work here until what is MISSING is mended.")
        )
    raise SystemExit(0 if healthy else 1)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("options", nargs=-1, metavar="[JUPYTERLAB OPTION]...", type=click.UNPROCESSED)
def lab(options: tuple[str, ...]) -> None:
    """Open JupyterLab on the lessons, at the first one. Options are passed on to JupyterLab.

    In a clone these are its notebooks. Elsewhere the lessons are first put into the folder `notebooks` here. A lesson that
    you have changed is never written over, and the lab says which were kept.

    \b
    Example: labkit lab --no-browser --port 8899
    """
    from jupyterlab.labapp import LabApp  # type: ignore[import-untyped]

    from labkit.lab import desk

    lessons = desk(Path.cwd())
    click.echo(lessons.text(), err=True)
    # JupyterLab would ask whether it may fetch its news, and PyPI for its newest version: here nothing leaves the machine.
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
        filter(None, [str(Path(labkit.__file__).parent / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH")])
    )
    # Nor are notebooks trusted for the learner (`jupyter trust`): their outputs and figures are readable before Run All as
    # it is, and a notebook that somebody sent must not run its HTML on being opened. tests/browser holds the first half.
    place = [f"--ServerApp.root_dir={lessons.folder}", f"--LabApp.default_url=/lab/tree/{lessons.first}"]
    LabApp.launch_instance([*place, *_at_socket_files(), *options])


def _at_socket_files() -> list[str]:
    """Kernels are met at socket files: nobody else can take their ports, and no other user of the machine reaches them.

    The system must have them, and their names have room for 103 characters: this many are left for the folder.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    room = 103 - len("/kernel-12345678-1234-1234-1234-123456789012-ipc-1")
    return ["--KernelManager.transport=ipc"] if os.name == "posix" and len(jupyter_runtime_dir()) <= room else []
