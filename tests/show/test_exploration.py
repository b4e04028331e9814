"""What there is to explore: which entries, which spans, which octets; held against the packets themselves and tshark."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit.decode.dissection import Dissection, dissect
from labkit.decode.exposure import Fact
from labkit.decode.spans import leaves, untiled
from labkit.show import exploration as module
from labkit.show.explain import Explanation
from labkit.show.exploration import Bursts, Packets
from labkit.wire.flows import reassemble
from labkit.wire.frames import Frame
from tests.conftest import output_of


class Frames:
    """Frames as `explore` asks for a capture."""

    def __init__(self, frames: list[Frame]) -> None:
        self.named_frames = frames
        self.flows: tuple[Dissection, ...] = tuple(map(dissect, reassemble(frames)))

    def explain(self) -> Explanation:
        return Explanation(self.flows)


@pytest.fixture(scope="module")
def capture() -> labkit.Capture:
    """A letter sent and read; its subject is hostile."""
    letter = labkit.sample_message()
    letter.replace_header("Subject", "<script>alert(1)</script>")
    with labkit.Provider("smtp-auth") as provider, provider.capture(engine="tap") as recorded:
        provider.client("hanako").send(letter)
        provider.client("taro").receive()
    return recorded


@pytest.fixture(scope="module")
def secret() -> labkit.Capture:
    """The same over TLS, with its keys."""
    with labkit.Provider("ssl", keylog=True) as provider, provider.capture(engine="tap") as recorded:
        provider.client("hanako").send(labkit.sample_message())
    return recorded.unlock()


def test_rows_are_what_tshark_lists(capture: labkit.Capture, tmp_path: Path) -> None:
    path = capture.save(tmp_path / "letter.pcapng")
    fields = [
        "frame.number",
        "ip.src",
        "tcp.srcport",
        "tcp.dstport",
        "frame.len",
        "frame.time_relative",
        "_ws.col.Protocol",
    ]
    shown = [part for field in fields for part in ("-e", field)]
    listed = output_of("tshark", "-r", path, "-T", "fields", *shown).splitlines()
    rows = Packets(capture).entries
    assert len(rows) == len(listed)
    for row, line in zip(rows, listed, strict=True):
        number, source, sport, dport, length, time, protocol = line.split("\t")
        assert (row.number, row.length) == (int(number), int(length))
        assert abs(float(row.time) - float(time)) < 2e-6
        assert row.source.endswith(f":{sport}")
        assert row.target.endswith(f":{dport}")
        assert row.source.startswith("mail.example") == (source == "192.0.2.25")
        # tshark calls a letter's lines IMF in the packet that ends it, and POP3 POP
        assert {"IMF": "SMTP", "POP": "POP3"}.get(protocol.split("/")[0], protocol.split("/")[0]) == row.protocol


def test_every_packet_is_tiled_down_to_the_streams_spans(capture: labkit.Capture) -> None:
    exploration = Packets(capture)
    seen = set()
    for row, frame in zip(exploration.entries, capture.named_frames, strict=True):
        tree = exploration.contents(row.number - 1)
        assert tree.octets == frame.data
        assert untiled(tree.spans, 0, len(tree.octets)) == ""
        seen.update(span.field for span in leaves(tree.spans))
    assert {"tcp.flags", "smtp.rcpt.recipient.domain", "pop3.pass.password"} <= seen
    assert "tcp.payload" not in seen


def test_the_bytes_of_a_node_are_its_value(capture: labkit.Capture) -> None:
    exploration = Packets(capture)
    found = [
        (tree.octets, span)
        for row in exploration.entries
        for tree in [exploration.contents(row.number - 1)]
        for span in leaves(tree.spans)
    ]
    domains = [octets[span.start : span.end] for octets, span in found if span.field == "smtp.rcpt.recipient.domain"]
    assert domains == [b"mail.example"]


def test_opened_bytes_follow_the_packet_as_a_part_of_their_own(secret: labkit.Capture) -> None:
    exploration = Packets(secret)
    row = next(row for row in exploration.entries if "rcpt TO" in row.info)
    tree = exploration.contents(row.number - 1)
    packet, inside = tree.parts
    assert row.protocol == "TLS"
    assert tree.octets[packet.start : packet.end] == secret.named_frames[row.number - 1].data
    assert tree.octets[inside.start : inside.end] == b"rcpt TO:<taro@mail.example>\r\n"
    assert untiled(tree.spans, 0, len(tree.octets)) == ""


def test_bytes_that_come_twice_are_explained_once(capture: labkit.Capture) -> None:
    """A packet that brings again what was there, and something new after it."""
    frames = list(capture.named_frames)
    number = next(row.number for row in Packets(capture).entries if "rcpt" in row.info.lower())
    rcpt = frames[number - 1]
    cut = rcpt.data[:-10]
    first = Frame(rcpt.time, cut[:16] + (len(cut) - 14).to_bytes(2, "big") + cut[18:], len(cut))
    again = Packets(Frames([*frames[: number - 1], first, *frames[number - 1 :]]))
    fields = [span.field for span in leaves(again.contents(number).spans)]
    assert "tcp.again" in fields
    assert any(field.startswith("smtp.rcpt") for field in fields)
    assert untiled(again.contents(number).spans, 0, len(rcpt.data)) == ""


def test_a_list_and_a_packet_are_bounded(capture: labkit.Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES", 5)
    monkeypatch.setattr(module, "OCTETS", 60)
    exploration = Packets(capture)
    assert len(exploration.entries) == 5
    assert exploration.note == f"The first 5 of {len(capture.frames)} packets."
    tree = exploration.contents(3)
    assert (len(tree.octets), tree.left_out) == (60, len(capture.frames[3].data) - 60)
    bursts = Bursts(capture)
    assert (len(bursts.entries), bursts.note) == (5, "The first 5 bursts.")
    with pytest.raises(IndexError):
        exploration.contents(5)


@given(st.lists(st.tuples(st.binary(max_size=90), st.sampled_from([0, 1, 101, 113, 276, 999])), max_size=6))
def test_any_bytes_make_rows_and_trees(packets: list[tuple[bytes, int]]) -> None:
    frames = [Frame(time, data, len(data), link) for time, (data, link) in enumerate(packets)]
    exploration = Packets(Frames(frames))
    assert len(exploration.entries) == len(frames)
    for row in exploration.entries:
        assert untiled(exploration.contents(row.number - 1).spans, 0, row.length) == ""


def test_bursts_repeat_are_tiled_and_numbered_as_the_exposure_counts(capture: labkit.Capture) -> None:
    bursts = Bursts(capture)
    for index, entry in enumerate(bursts.entries):
        contents = bursts.contents(index)
        assert untiled(contents.spans, 0, entry.length) == ""
        assert not entry.time
    password = capture.findings[Fact.PASSWORD]
    assert password.flow == 2
    assert password.start is not None
    assert password.end is not None
    index, entry = next(
        (i, e) for i, e in enumerate(bursts.entries) if e.number == password.burst and e.protocol == "POP3"
    )
    contents = bursts.contents(index)
    first = contents.parts[0].first
    assert contents.octets[password.start - first : password.end - first].decode() == password.value
    assert (entry.source, entry.target) == ("client.example", "mail.example")


def test_what_keys_opened_of_a_flow_comes_after_it(secret: labkit.Capture) -> None:
    entries = Bursts(secret).entries
    protocols = [entry.protocol for entry in entries]
    assert protocols == sorted(protocols, reverse=True)  # TLS, then SMTP
    assert any(entry.info.startswith("rcpt TO:<taro@mail.example>") for entry in entries)
