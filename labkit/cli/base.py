"""What all commands share: how they end, which options several have, and where their output goes."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

import labkit
from labkit import files
from labkit.cli import terminal
from labkit.cli.terminal import say
from labkit.errors import BadSetting, LabError
from labkit.show.safe import visible
from labkit.texts import _

F = TypeVar("F", bound=Callable[..., None])


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


def styles(*names: str) -> Callable[[F], F]:
    """The option --format, with these choices; the first is the default."""
    return click.option("--format", "style", type=click.Choice(names), default=names[0], show_default=True)


output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write there instead of the terminal."
)


def write(text: str, output: Path | None) -> None:
    """To the file that was named, else to the terminal."""
    if output is None:
        say(text)
        return
    try:
        files.write(output, text)
    except OSError as error:
        raise BadSetting(_("{path} cannot be written: {why}.").format(path=output, why=error.strerror)) from None


def as_json(data: Any, indent: int | None = 2) -> str:
    """JSON that people can read, but in which nothing from the wire acts on a terminal: that is written as escapes."""
    plain = json.dumps(data, ensure_ascii=False, indent=indent)
    return "".join(one if one == "\n" or visible(one) == one else json.dumps(one)[1:-1] for one in plain)
