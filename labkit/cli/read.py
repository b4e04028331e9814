"""labkit read: any mail capture, explained."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

import labkit
from labkit.cli.base import as_json, output_option, styles, write
from labkit.show.safe import visible
from labkit.texts import _


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


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--keylog", type=click.Path(path_type=Path), help="TLS keys in NSS format (SSLKEYLOGFILE): opens what they fit."
)
@click.option(
    "--decode-as", multiple=True, metavar="PORT=PROTOCOL", callback=_decode_as, help="smtp, pop3, smtps or pop3s."
)
@styles("text", "json", "html")
@output_option
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
        "json": lambda: as_json(capture.report()),
        "html": capture.page,
    }
    write(faces[style](), output)
