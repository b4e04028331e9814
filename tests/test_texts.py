"""Sentences: English by default and on every machine, another language by a catalogue."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo

SAYS = """
from labkit.texts import LANGUAGE, N_, _, n_
print(LANGUAGE, _(N_("the client")), end=" ")
print(n_("{count} octet", "{count} octets", 1), n_("{count} octet", "{count} octets", 2), _("-"))
"""


def said(**environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LABKIT_", "LANG", "LC_"))}
    done = subprocess.run([sys.executable, "-c", SAYS], env=clean | environment, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("environment", [{}, {"LANG": "ja_JP.UTF-8", "LANGUAGE": "ja"}, {"LABKIT_LANG": "tlh"}])
def test_the_language_is_english_unless_a_catalogue_is_named(environment: dict[str, str]) -> None:
    assert said(**environment) == "en the client {count} octet {count} octets -"


def test_a_catalogue_of_ones_own_is_tried_out_by_its_name(tmp_path: Path) -> None:
    catalogue = Catalog(locale="pt_BR")
    catalogue.add("the client", "o cliente")
    catalogue.add(("{count} octet", "{count} octets"), ("{count} octeto", "{count} octetos"))
    with (tmp_path / "mine.mo").open("wb") as file:
        write_mo(file, catalogue)
    told = said(LABKIT_LANG=str(tmp_path / "mine.mo"), PYTHONIOENCODING="utf-8")
    assert told == "pt-BR o cliente {count} octeto {count} octetos -"
