"""labkit doctor: what this machine can do for the lab."""

import click

from labkit.cli.base import as_json, styles
from labkit.cli.terminal import say
from labkit.texts import _


@click.command()
@styles("text", "json")
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
        say(as_json({"ok": healthy, "checks": listed}))
    else:
        for check in checks:
            word = _("ok") if check.ok else _("MISSING") if check.needed else _("not here")
            say(f"{word:8}  {check.name:13}  {check.detail}")
        say(_("The lab works here.") if healthy else _("The lab cannot work here until what is MISSING is mended."))
    raise SystemExit(0 if healthy else 1)
