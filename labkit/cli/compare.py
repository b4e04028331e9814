"""labkit compare: the same exchange under several policies, side by side."""

from collections.abc import Callable, Mapping
from pathlib import Path

import click

import labkit
from labkit.cli import terminal
from labkit.cli.base import as_json, output_option, styles, write

ENGINES = click.Choice(["auto", "tap", "live"])


@click.command()
@click.argument("policies", nargs=-1, type=str.lower, metavar="[POLICY]...")
@click.option("--engine", type=ENGINES, default="auto", show_default=True, help="What records the packets.")
@styles("text", "json", "html")
@output_option
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
        "json": lambda: as_json(comparison.report()),
        "html": comparison.page,
    }
    if pcap is not None:
        comparison.save(pcap)
    write(faces[style](), output)
