"""The lab in a terminal: the same capabilities as the notebooks, for people and for scripts.

Exit codes: 0 done, 1 done and something is wrong (doctor) or nobody answered (probe), 2 could not be done as asked, with one
sentence that says why. Whoever reads the output may leave at any time: that is 0.
Heavy modules are imported inside the commands, so that `labkit --help` answers at once.
"""

import difflib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import click

import labkit
from labkit import files, terminal
from labkit.errors import BadSetting, LabError
from labkit.show.safe import visible
from labkit.terminal import NobodyReads, say
from labkit.texts import _

ENGINES = click.Choice(["auto", "tap", "live"])


class LabGroup(click.Group):
    """Turns a user's mistake into one sentence and exit code 2, and lets nothing past the terminal's door."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command that was asked for."""
        with terminal.opened():
            try:
                raise SystemExit(super().main(*arguments, **options | {"standalone_mode": False}))
            except LabError as error:
                say(f"labkit: {error}", error=True)
                raise SystemExit(2) from None
            except click.ClickException as error:
                shown = io.StringIO()
                error.show(shown)
                say(shown.getvalue().rstrip(), error=True)
                raise SystemExit(error.exit_code) from None
            except click.Abort:
                raise SystemExit(130) from None  # as a shell says that Ctrl-C ended it


@click.group(cls=LabGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(labkit.__version__, prog_name="labkit")
def main() -> None:
    """See what mail looks like on the wire: real servers, real clients, real captures, on this machine only."""


def _write(text: str, output: Path | None) -> None:
    """To the file that was named, else to the terminal."""
    if output is None:
        say(text)
        return
    try:
        files.write(output, text)
    except OSError as error:
        raise BadSetting(_("{path} cannot be written: {why}.").format(path=output, why=error.strerror)) from None


def _json(data: Any, indent: int | None = 2) -> str:
    """JSON that people can read, but in which nothing from the wire acts on a terminal: that is written as escapes."""
    plain = json.dumps(data, ensure_ascii=False, indent=indent)
    return "".join(one if one == "\n" or visible(one) == one else json.dumps(one)[1:-1] for one in plain)


@main.command()
@click.argument("policies", nargs=-1, type=str.lower, metavar="[POLICY]...")
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
        "text": lambda: comparison.text(exact=True, width=terminal.columns() if output is None else None),
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
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(_("reading {name}").format(name=escape(visible(path.name))), total=None)
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


class Limit(NamedTuple):
    """Of what is kept of a capture: strangers may send for ever."""

    packets: int
    octets: int


FOLLOWED = Limit(8_000, 64 << 20)
SAVED = Limit(200_000, 128 << 20)
SHOWN = 64 << 10  # octets of one connection


def _is_full(capture: labkit.Capture, limit: Limit) -> bool:
    frames = capture.frames
    return len(frames) > limit.packets or sum(frame.length for frame in frames) > limit.octets


class _Saved:
    """The session in a file, however it ends: also when whoever read the dialogue has gone. A context manager."""

    def __init__(self, provider: labkit.Provider, pcap: Path | None) -> None:
        self._pcap = pcap
        self._capture = provider.capture() if pcap is not None else None
        self._full = False

    def __enter__(self) -> Self:
        if self._capture is not None:
            self._capture.start()
        return self

    def limit(self) -> None:
        """Record no more once there is enough, and say so."""
        if self._capture is not None and not self._full and _is_full(self._capture, SAVED):
            self._full = True
            self._capture.stop()
            say(_("{path} is full: what comes now is shown, but not saved.").format(path=self._pcap), error=True)

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        if self._capture is None or self._pcap is None:
            return
        if kind is NobodyReads:
            message = _("Nobody reads the dialogue any more: the server stops, and the session goes into {path}.")
            with suppress(NobodyReads):
                say(message.format(path=self._pcap), error=True)
        self._capture.stop()
        self._capture.save(self._pcap)


class _Follower:
    """Prints the lines that a running provider's connections have got since it was last asked.

    It follows a capture of its own, and begins another before that grows too long to be read again and again: when nobody
    is connected, or at the latest when it is full. Of one connection no more is shown than the beginning.
    """

    def __init__(self, provider: labkit.Provider, style: str) -> None:
        self._provider = provider
        self._style = style
        self._connections = 0  # in all
        self._begin()

    def _begin(self) -> None:
        self._capture = self._provider.capture()
        self._packets = 0
        self._busy = False
        self._numbers: dict[int, int] = {}
        self._octets: dict[int, int] = {}
        self._printed: dict[int, int] = {}
        self._capture.start()

    def print_new(self) -> None:
        """One line each: the connection's number, who spoke, the mark, the text."""
        self._print()
        full = _is_full(self._capture, FOLLOWED)
        if not full and (self._packets < FOLLOWED.packets // 4 or self._busy):
            return
        self.stop()
        if full:
            say(_("Much has been said: what the connections that are open now go on to say is not shown."), error=True)
        self._connections += len(self._numbers)
        self._begin()

    def stop(self) -> None:
        """Follow no longer; what has been said is printed."""
        self._capture.stop()
        self._print()

    def _print(self) -> None:
        packets = len(self._capture.frames)
        if packets == self._packets:
            return
        self._packets = packets
        flows = [dissection for dissection in self._capture.flows if dissection.flow.opened]
        self._busy = not all(dissection.flow.closed for dissection in flows)
        for dissection in flows:
            self._print_of(dissection)

    def _print_of(self, dissection: Any) -> None:
        """The new lines of one connection."""
        flow = dissection.flow
        octets, before = len(flow.client_stream.data) + len(flow.server_stream.data), self._octets.get(flow.number, 0)
        if octets == before or before > SHOWN:
            return
        self._octets[flow.number] = octets
        number = self._numbers.setdefault(flow.number, self._connections + len(self._numbers) + 1)
        if octets > SHOWN:
            lines, complete = _beginning(dissection).lines, None
            said = _("Connection {number} says much: what comes after its first {size} KiB is not shown.")
            say(said.format(number=number, size=SHOWN >> 10), error=True)
        else:
            # A line without its end may still grow: it is printed when the next one has begun, or the connection ends.
            lines = dissection.lines
            complete = len(lines) if flow.closed or _ends_a_line(flow) else len(lines) - 1
        printed = self._printed.get(flow.number, 0)
        for line in lines[printed:complete]:
            say(self._shown(number, line))
        self._printed[flow.number] = max(complete or 0, printed)

    def _shown(self, number: int, line: Any) -> str:
        from labkit.show.marks import style_of

        if self._style == "json":
            told = {
                "flow": number,
                "side": line.side,
                "kind": line.kind,
                "visibility": line.visibility,
                "text": line.text,
            }
            return _json(told, indent=None)  # a line each
        return f"{number:3} {line.side.value[0].upper()}: {style_of(line).mark} {line.text}"


def _ends_a_line(flow: Any) -> bool:
    return all(flow.stream(burst.side).data[: burst.end].endswith(b"\n") for burst in flow.bursts[-1:])


def _beginning(dissection: Any) -> Any:
    """What both sides said first, and no more of it than is shown."""
    from labkit.decode.dissection import dissect

    flow = dissection.flow
    size = SHOWN // 2
    client, server = (stream._replace(data=stream.data[:size]) for stream in (flow.client_stream, flow.server_stream))
    return dissect(flow._replace(client_stream=client, server_stream=server), protocol=dissection.protocol)


@main.command()
@click.argument("policy", type=str.lower)
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
    with provider, _Saved(provider, pcap) as saved:
        follow = _Follower(provider, style)
        say(_for_scripts(provider) if style == "json" else _how_to_set_up(provider))
        crowded = False
        while True:
            ends = stopped.wait(0.2)
            follow.print_new()
            saved.limit()
            if provider.turned_away and not crowded:
                crowded = True
                say(_("Too many connections are open: those that come now are closed at once."), error=True)
            if ends:
                break
        follow.stop()


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
    "--timeout", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds for all of it."
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
    raise SystemExit(0 if card.answered else 1)


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
        say(_json({"ok": healthy, "checks": listed}))
    else:
        for check in checks:
            word = _("ok") if check.ok else _("MISSING") if check.needed else _("not here")
            say(f"{word:8}  {check.name:13}  {check.detail}")
        say(_("The lab works here.") if healthy else _("The lab cannot work here until what is MISSING is mended."))
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

    _refuse_unheard_of(options, {name for known in (*LabApp.flags, *LabApp.aliases) for name in _names(known)})
    lessons = desk(Path.cwd())
    say(lessons.text(), error=True)
    # JupyterLab would ask whether it may fetch its news, and PyPI for its newest version: here nothing leaves the machine.
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
        filter(None, [str(Path(labkit.__file__).parent / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH")])
    )
    # Nor are notebooks trusted for the learner (`jupyter trust`): their outputs and figures are readable before Run All as
    # it is, and a notebook that somebody sent must not run its HTML on being opened. tests/browser holds the first half.
    place = [f"--ServerApp.root_dir={lessons.folder}", f"--LabApp.default_url=/lab/tree/{lessons.first}"]
    LabApp.launch_instance([*place, *_at_socket_files(), *options])


def _names(known: str | tuple[str, ...]) -> tuple[str, ...]:
    """Of an option of JupyterLab's, which may have several."""
    return known if isinstance(known, tuple) else (known,)


def _refuse_unheard_of(options: tuple[str, ...], known: set[str]) -> None:
    """JupyterLab would pass over an option that it does not have. One with a dot is for its configuration."""
    known |= {"help-all", "version"}
    for option in options:
        name = option.lstrip("-").partition("=")[0]
        if not option.startswith("-") or "." in name or name in known:
            continue
        nearest = difflib.get_close_matches(name, known, 1)
        message = (
            _("JupyterLab has no option {option}. Is {nearest} meant? `labkit lab --help-all` lists all of them.")
            if nearest
            else _("JupyterLab has no option {option}: `labkit lab --help-all` lists all that it has.")
        )
        raise BadSetting(message.format(option=option, nearest=f"--{nearest[0]}" if nearest else ""))


def _at_socket_files() -> list[str]:
    """Kernels are met at socket files: nobody else can take their ports, and no other user of the machine reaches them.

    The system must have them, and their names have room for 103 characters: this many are left for the folder.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    room = 103 - len("/kernel-12345678-1234-1234-1234-123456789012-ipc-1")
    return ["--KernelManager.transport=ipc"] if os.name == "posix" and len(jupyter_runtime_dir()) <= room else []
