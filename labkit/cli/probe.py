"""labkit probe: what a provider offers."""

from pathlib import Path

import click

import labkit
from labkit.cli.base import as_json, output_option, styles, write
from labkit.errors import BadSetting
from labkit.texts import _


@click.command()
@click.argument("host")
@click.option("--smtp-port", "smtp_ports", multiple=True, type=click.IntRange(1, 65535), help="Instead of 587 and 465.")
@click.option("--pop3-port", "pop3_ports", multiple=True, type=click.IntRange(1, 65535), help="Instead of 110 and 995.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds for all of it."
)
@click.option("--ca", type=click.Path(path_type=Path, dir_okay=False), help="Trust this PEM file, not the system's.")
@styles("text", "json")
@output_option
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
    write(as_json(card.report()) if style == "json" else card.text(), output)
    raise SystemExit(0 if card.answered else 1)
