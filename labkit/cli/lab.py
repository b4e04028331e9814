"""labkit lab: JupyterLab on the lessons."""

import difflib
import os
from pathlib import Path

import click

import labkit
from labkit.cli.terminal import say
from labkit.errors import BadSetting
from labkit.texts import _


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
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
    LabApp.launch_instance([*place, *at_socket_files(), *options])


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


def at_socket_files() -> list[str]:
    """Kernels are met at socket files: nobody else can take their ports, and no other user of the machine reaches them.

    The system must have them, and their names have room for 103 characters: this many are left for the folder.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    room = 103 - len("/kernel-12345678-1234-1234-1234-123456789012-ipc-1")
    return ["--KernelManager.transport=ipc"] if os.name == "posix" and len(jupyter_runtime_dir()) <= room else []
