"""The contract with tlslite-ng: its release, and what of its inside is overridden."""

import inspect
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from tlslite.recordlayer import RecordLayer, RecordSocket
from tlslite.tlsconnection import TLSConnection

from labkit.browser.tls import engine
from tests.conftest import ROOT

OVERRIDDEN = {
    TLSConnection: {
        "_getMsg": "(self, expectedType, secondaryType=None, constructorType=None)",
        "_sendMsg": "(self, msg, randomizeFirstBlock=True, update_hashes=True)",
        "_shutdown": "(self, resumable)",
    },
    RecordLayer: {
        "calcPendingStates": "(self, cipherSuite, masterSecret, clientRandom, serverRandom, implementations)",
        "calcTLS1_3PendingState": "(self, cipherSuite, cl_traffic_secret, sr_traffic_secret, implementations)",
    },
    RecordSocket: {"_recvHeader": "(self)"},
}
CALLED = {TLSConnection: "_sendError", RecordSocket: "_sockRecvAll"}
OURS = {TLSConnection: engine.TlsEngine, RecordLayer: engine._Records, RecordSocket: engine._Headers}


def test_its_release_is_pinned() -> None:
    pins = re.findall(r'"tlslite-ng(.*?)"', (ROOT / "pyproject.toml").read_text())
    assert set(pins) == {f"=={version('tlslite-ng')}"}


@pytest.mark.parametrize("base", OVERRIDDEN, ids=lambda base: base.__name__)
def test_what_is_overridden_is_there_and_nothing_else_is(base: type) -> None:
    assert {name: str(inspect.signature(getattr(base, name))) for name in OVERRIDDEN[base]} == OVERRIDDEN[base]
    overridden = {name for name in vars(OURS[base]) if hasattr(base, name) and not name.startswith("__")}
    assert overridden == set(OVERRIDDEN[base])


@pytest.mark.parametrize("base", CALLED, ids=lambda base: base.__name__)
def test_what_is_called_is_there(base: type) -> None:
    assert hasattr(base, CALLED[base])


def test_attributes_that_are_replaced_are_there() -> None:
    connection = TLSConnection(None)
    assert isinstance(connection._recordLayer, RecordLayer)
    assert isinstance(connection._recordLayer._recordSocket, RecordSocket)


def test_nothing_of_it_is_loaded_without_being_asked_for() -> None:
    program = "import sys, labkit, labkit.provider; print(*sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    loaded = ran.stdout.split()
    assert "labkit.provider" in loaded
    assert not [name for name in loaded if name.startswith(("labkit.browser", "tlslite", "ecdsa"))]
