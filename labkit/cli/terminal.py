"""The terminal: the one door through which the command line speaks.

What passes is made visible first, because the wire's bytes are in it and an ESC would act. A terminal that lacks the lab's
marks gets letters in their place, one that has colours gets them, and who no longer reads ends the command quietly.
"""

import codecs
import errno
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from labkit.show.safe import visible

# The marks of show.marks and of a report card; in colour they go on to the end of what they mark.
_COLOURS = {"●": "red", "◐": "yellow", "◒": "magenta", "◌": "cyan", "◇": "blue", "○": "green", "✓": "green", "✗": "red"}
_MARKED = re.compile(f"(?P<mark>[{''.join(_COLOURS)}]).*?(?=  | │|$)", re.MULTILINE)
# One column each, as the character that it stands for: tables keep their shape.
_SPELLED = dict(zip("●◐◒◌◇○·–✓✗…→│─┼“”‘’", "*%&:^o.-+x~>|-+\"\"''", strict=True))
_SPELLED |= {chr(0x2400 + code): "^" + chr(0x40 + code) for code in range(0x20)}


class NobodyReads(SystemExit):
    """Whoever read the output has gone. That is not wrong, and ends the command with 0."""


def say(text: str, *, error: bool = False) -> None:
    """Print lines. error: for a person, beside the output. Raises NobodyReads."""
    stream = sys.stderr if error else sys.stdout
    shown = "\n".join(map(visible, text.split("\n")))
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"  # https://no-color.org
    coloured = _MARKED.sub(lambda found: click.style(found[0], fg=_COLOURS[found["mark"]]), shown)
    try:
        click.echo(
            coloured, file=stream, color=False if plain else None
        )  # where nobody looks, it takes the colours away
    except OSError as trouble:
        if trouble.errno not in (errno.EPIPE, errno.EIO):  # a closed pipe, a closed terminal
            raise
        raise NobodyReads(0) from None


def columns() -> int | None:
    """How wide the terminal is; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextmanager
def opened() -> Iterator[None]:
    """For one command: whatever the encoding, all is legible, and the end is quiet."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    for stream in streams:
        stream.reconfigure(errors=_LEGIBLE)
    try:
        yield
    finally:
        for stream in streams:
            _finish(stream)


def _finish(stream: io.TextIOWrapper) -> None:
    """Python writes once more at exit what nobody has read, and would then end with 120."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _spell(failure: UnicodeError) -> tuple[str, int]:
    """The error handler (codecs.register_error): letters for what an encoding lacks."""
    if not isinstance(failure, UnicodeEncodeError):
        raise failure
    lacking = failure.object[failure.start : failure.end]
    spelled = (_SPELLED.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking)
    return "".join(spelled), failure.end


_LEGIBLE = "labkit.legible"
codecs.register_error(_LEGIBLE, _spell)
