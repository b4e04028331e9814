"""A capture tells the same whichever engine made it, and a saved one is read by others."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from labkit.errors import BadCapture, BadSetting, EngineUnavailable, LabError
from labkit.wire import live
from labkit.wire.endpoints import RecordedNames
from labkit.wire.flows import Side
from labkit.wire.network import Network
from labkit.wire.recording import Recording, choose_engine
from tests.conftest import output_of
from tests.wire.conftest import Client, Echo


def told(capture: Recording) -> tuple[bytes, bytes, list[tuple[Side, int]]]:
    """What must be the same under every engine."""
    (flow,) = capture.connections
    turns = [(burst.side, burst.end - burst.start) for burst in flow.bursts]
    return flow.client_stream.data, flow.server_stream.data, turns


@pytest.fixture
def names(network: Network) -> Callable[[], RecordedNames]:
    """A fresh names for what listens: port 25."""
    return lambda: RecordedNames(
        {(listener.host, listener.port): 25 for listener in network.listeners}, "mail.example", "client.example"
    )


@pytest.fixture
def capture(network, contexts, names, live_or_tap) -> Recording:
    """A plain session."""
    listener = network.listen(Echo)
    with Recording(network.record(live_or_tap), names()) as capture:
        client = Client(listener, contexts)
        client.ask(b"hello")
        client.quit()
    return capture


def test_both_engines_tell_the_same(network, talk, kind, names):
    """The law: byte-identical streams and the same turns, from live and tap at once, every time."""
    if reason := live.available():
        pytest.skip(reason)
    run = talk(kind)
    for _again in range(13):  # four kinds of connection: more than fifty runs
        tap, kernel = Recording(network.record("tap"), names()), Recording(network.record("live"), names())
        with tap, kernel:
            run()
        assert (tap.engine, kernel.engine) == ("tap", "live")
        assert told(tap) == told(kernel)
        for capture in (tap, kernel):
            (flow,) = capture.connections
            assert flow.opened
            assert flow.closed
            assert not flow.client_stream.gaps + flow.server_stream.gaps
            assert (str(flow.client), str(flow.server)) == ("client.example:50001", "mail.example:25")
            assert capture.notes == ()


def test_a_capture_tells_what_there_is_so_far(network, contexts, live_or_tap):
    listener = network.listen(Echo)
    with Recording(network.record(live_or_tap)) as capture:
        client = Client(listener, contexts)
        client.ask(b"hello")
        while not capture.connections or b"hello" not in capture.connections[0].server_stream.data:
            pass
        assert capture.running
        early = capture.connections[0]
        assert early.closed == ""
        client.quit()
    assert not capture.running
    (flow,) = capture.connections
    assert flow.closed == "fin"
    assert flow.server_stream.data.startswith(early.server_stream.data)
    assert capture.connections is capture.connections
    assert capture.frames is capture.frames


def test_a_capture_that_is_looked_at_before_it_starts(network, contexts, live_or_tap, tmp_path):
    listener = network.listen(Echo)
    capture = Recording(network.record(live_or_tap))
    assert (len(capture.frames), capture.connections, len(capture.packets)) == (0, (), 0)
    assert not Recording.load(capture.save(tmp_path / "early.pcap")).frames
    with capture:
        client = Client(listener, contexts)
        client.ask(b"hello")
        client.quit()
    (flow,) = capture.connections
    assert b"hello" in flow.server_stream.data
    assert len(capture.packets) == len(capture.frames) > 0


def test_a_capture_that_starts_late_and_stops_early(network, contexts, names, live_or_tap):
    """Without a SYN, the names tells who the server is."""
    client = Client(network.listen(Echo), contexts)
    client.ask(b"before")
    with Recording(network.record(live_or_tap), names()) as capture:
        client.ask(b"meanwhile")
    client.ask(b"after")
    client.quit()
    assert told(capture) == (b"meanwhile\r\n", b"meanwhile\r\n", [(Side.CLIENT, 11), (Side.SERVER, 11)])
    (flow,) = capture.connections
    assert (flow.opened, flow.closed, str(flow.server)) == (False, "", "mail.example:25")


def test_without_names_endpoints_are_real(network, contexts, live_or_tap):
    listener = network.listen(Echo)
    with Recording(network.record(live_or_tap)) as capture:
        client = Client(listener, contexts)
        local = client.sock.getsockname()
        client.quit()
    (flow,) = capture.connections
    assert (flow.client.address, flow.client.port) == local
    assert (flow.server.address, flow.server.port) == (listener.host, listener.port)


def test_packets_are_scapys_between_the_ends_that_people_know(capture):
    from scapy.layers.inet import IP, TCP

    syn = capture.packets[0]
    assert (syn[IP].src, syn[TCP].sport, syn[IP].dst, syn[TCP].dport) == ("198.51.100.7", 50_001, "192.0.2.25", 25)
    assert len(capture.packets) == len(capture.frames)
    assert int(syn.time * 10**9) == capture.frames[0].time
    assert syn.wirelen == capture.frames[0].length
    assert capture.packets is capture.packets


def test_scapy_is_loaded_by_layer_and_only_when_asked():
    code = """
import json, sys
import labkit.wire.recording, labkit.wire.network
before = "scapy" in sys.modules
from labkit.wire.frames import Frame
labkit.wire.recording._scapy([Frame(1, bytes(60), 60)])
print(json.dumps([before, "scapy.all" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, False]


def test_reading_a_file_loads_nothing_that_serves():
    code = "import sys, labkit.wire.recording; sys.exit(bool({'asyncio', 'ssl'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
@pytest.mark.parametrize("addresses", ["names", "real"])
def test_a_saved_capture_tells_the_same(capture, tmp_path, suffix, addresses):
    path = capture.save(tmp_path / f"saved.{suffix}", addresses=addresses)
    loaded = Recording.load(path)
    assert loaded.engine == "file"
    assert told(loaded) == told(capture)
    assert len(loaded.packets) == len(capture.packets)
    (flow,) = loaded.connections
    if addresses == "names":
        assert (flow.client.address, flow.client.port, flow.server.address, flow.server.port) == (
            "198.51.100.7",
            50_001,
            "192.0.2.25",
            25,
        )
    else:
        assert flow.client.address == flow.server.address == "127.0.0.1"
    # Only pcapng has a place for names.
    named = addresses == "names" and suffix == "pcapng"
    assert flow.client.name == ("client.example" if named else "")
    again = Recording.load(loaded.save(tmp_path / f"again.{suffix}", addresses=addresses))
    assert [str(end) for end in (again.connections[0].client, again.connections[0].server)] == [
        str(flow.client),
        str(flow.server),
    ]


def test_wireshark_dissects_a_saved_capture_at_once(capture, tmp_path):
    path = capture.save(tmp_path / "saved.pcapng")
    checked = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-o", "tcp.desegment_tcp_streams:TRUE")

    def ask(*arguments: str) -> str:
        return output_of("tshark", "-r", path, *checked, *arguments)

    assert "220 echo" in ask("-Y", "smtp.response")
    assert ask("-Y", "tcp.checksum.status != 1 || ip.checksum.status != 1") == ""
    assert ask("-Y", "_ws.expert.severity >= 6291456") == ""  # PI_WARN
    comment = output_of("capinfos", "-k", path)
    assert f"labkit, {capture.engine} engine" in comment


def test_a_saved_capture_keeps_the_key_log(capture, tmp_path):
    capture.keylog = "CLIENT_RANDOM " + "ab" * 32 + " " + "cd" * 48 + "\n"
    assert Recording.load(capture.save(tmp_path / "saved.pcapng")).keylog == capture.keylog


def test_load_gives_the_class_that_was_asked(capture, tmp_path):
    class Face(Recording):
        pass

    assert type(Face.load(capture.save(tmp_path / "saved.pcap"))) is Face


def test_the_comment_of_a_foreign_file_names_nobody(capture, tmp_path):
    from labkit.wire import pcap_writer

    pcap_writer.write(tmp_path / "foreign.pcapng", capture.frames, comment="127.0.0.1 bank.example")
    (flow,) = Recording.load(tmp_path / "foreign.pcapng").connections
    assert flow.server.name == flow.client.name == ""


def test_public_captures_load(shared_captures):
    capture = Recording.load(shared_captures / "zeek_smtp.pcap")
    assert capture.connections
    assert len(capture.packets) == len(capture.frames)


@pytest.mark.parametrize("name", ["missing/folder.pcap", "folder.txt"])
def test_what_cannot_be_saved_is_one_sentence_and_nothing_written(capture, tmp_path, name):
    with pytest.raises(LabError, match="cannot be saved"):
        capture.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_unknown_addresses_are_one_sentence(capture, tmp_path):
    with pytest.raises(BadSetting, match='"names" or "real", not "both"'):
        capture.save(tmp_path / "saved.pcap", addresses="both")


def test_what_cannot_be_loaded_is_one_sentence(tmp_path):
    with pytest.raises(BadCapture):
        Recording.load(tmp_path / "missing.pcap")


def test_a_capture_may_outlive_its_network(contexts, live_or_tap):
    with Network() as network:
        listener = network.listen(Echo)
        capture = Recording(network.record(live_or_tap))
        capture.start()
        client = Client(listener, contexts)
        client.ask(b"hello")
    client.close()
    capture.stop()
    capture.stop()
    (flow,) = capture.connections
    assert flow.client_stream.data == b"hello\r\n"
    assert flow.closed


def test_a_capture_records_once(network):
    capture = Recording(network.record("tap"))
    with capture:
        pass
    with pytest.raises(LabError, match="records once"):
        capture.start()


def test_a_file_is_not_recorded(capture, tmp_path):
    with pytest.raises(LabError, match="is not recorded"), Recording.load(capture.save(tmp_path / "saved.pcap")):
        pass


def possible() -> str:
    return ""


def forbidden() -> str:
    return "It is forbidden."


class TestEngines:
    @pytest.fixture(autouse=True)
    def unpinned(self, monkeypatch):
        monkeypatch.delenv("LABKIT_CAPTURE", raising=False)

    def test_auto_takes_live_where_it_is_possible(self):
        assert choose_engine("auto", possible) == "live"
        assert choose_engine("auto", forbidden) == "tap"

    def test_the_environment_pins_auto_and_nothing_else(self, monkeypatch):
        monkeypatch.setenv("LABKIT_CAPTURE", "tap")
        assert choose_engine("auto", possible) == "tap"
        assert choose_engine("live", possible) == "live"

    def test_a_named_engine_that_cannot_run_says_why_and_what_else(self, monkeypatch):
        with pytest.raises(EngineUnavailable, match=r'^It is forbidden\. Take the engine "tap" instead'):
            choose_engine("live", forbidden)
        monkeypatch.setenv("LABKIT_CAPTURE", "live")
        with pytest.raises(EngineUnavailable, match="It is forbidden"):
            choose_engine("auto", forbidden)

    def test_an_engine_that_does_not_exist_names_those_that_do(self, monkeypatch):
        with pytest.raises(EngineUnavailable, match=r'"pcap".*auto, tap, live'):
            choose_engine("pcap", possible)
        monkeypatch.setenv("LABKIT_CAPTURE", "both")
        with pytest.raises(EngineUnavailable, match=r'"both".*LABKIT_CAPTURE.*auto, tap, live'):
            choose_engine("auto", possible)
