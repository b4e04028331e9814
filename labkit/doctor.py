"""What this machine can do for the lab: one check a line, each with what to do when it fails.

A check that fails makes the lab unusable; a check that is merely "not here" names something the lab does without.
"""

import importlib.metadata
import platform
import re
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from labkit.texts import _
from labkit.wire import live


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. needed: the lab cannot work without it."""

    name: str
    ok: bool
    detail: str
    needed: bool = True


def _python() -> Check:
    detail = f"{platform.python_implementation()} {platform.python_version()}"
    ok = sys.version_info >= (3, 11)
    return Check(_("Python"), ok, detail if ok else _("{version}: labkit needs 3.11 or newer").format(version=detail))


def _needed() -> list[str]:
    """The packages that labkit's own metadata asks for, whatever extras there are."""
    asked = importlib.metadata.requires("labkit") or []
    return sorted(re.split(r"[^\w.-]", line)[0] for line in asked if "extra ==" not in line)


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, _("not installed: run `make lab`, or `pip install {name}`").format(name=name))


def _live() -> Check:
    reason = live.available()
    return Check(_("live capture"), not reason, reason or _("the kernel's own packets"), needed=False)


def _tls() -> Check:
    modern = ssl.HAS_TLSv1_3
    return Check(_("TLS"), ssl.HAS_TLSv1_2, f"{ssl.OPENSSL_VERSION}, TLS {'1.3' if modern else '1.2'}")


def _fonts() -> Check:
    """Figures use the fonts that matplotlib brings; a font for Japanese is only for pages and terminals."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    bundled = "DejaVu Sans" in installed
    detail = _("DejaVu Sans comes with matplotlib") if bundled else _("DejaVu Sans is missing: reinstall matplotlib")
    return Check(_("fonts"), bundled, detail)


def examine() -> Iterator[Check]:
    """Every check, in order."""
    yield _python()
    for name in _needed():
        yield _package(name)
    yield _tls()
    yield Check(_("tap capture"), True, _("the bytes at the server's socket; needs no privilege"))
    yield _live()
    try:
        yield _fonts()
    except ImportError as error:
        yield Check(_("fonts"), False, str(error))
