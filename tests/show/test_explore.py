"""What the three panes show: which rows, which tree, which octets; held against the packets themselves and tshark."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit.decode.dissection import Dissection, dissect
from labkit.decode.spans import untiled
from labkit.errors import BadSetting
from labkit.show import explore as module
from labkit.show.explain import Explanation, explain
from labkit.show.explore import Exploration, PacketTree, explore
from labkit.wire.flows import reassemble
from labkit.wire.frames import Frame
from tests.conftest import output_of


class Packets:
    """Frames as `explore` asks for a capture."""

    def __init__(self, frames: list[Frame]) -> None:
        self.named_frames = frames
        self.flows: tuple[Dissection, ...] = tuple(map(dissect, reassemble(frames)))

    def explain(self) -> Explanation:
        return explain(self.flows)


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


def leaves(tree: PacketTree) -> list[str]:
    return [node.field for node, after in zip(tree.nodes, [*tree.nodes[1:], None], strict=True)
            if after is None or after.depth <= node.depth]  # fmt: skip


def test_a_files_name_is_no_capture() -> None:
    with pytest.raises(BadSetting, match="give a capture"):
        explore("letter.pcapng")  # type: ignore[arg-type]


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
    rows = Exploration(capture).rows
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
    exploration = Exploration(capture)
    seen = set()
    for row, frame in zip(exploration.rows, capture.named_frames, strict=True):
        tree = exploration.tree(row.number)
        assert tree.octets == frame.data
        assert untiled(tree.spans, 0, len(tree.octets)) == ""
        seen.update(leaves(tree))
    assert {"tcp.flags", "smtp.rcpt.recipient.domain", "pop3.pass.password"} <= seen
    assert "tcp.payload" not in seen


def test_the_bytes_of_a_node_are_its_value(capture: labkit.Capture) -> None:
    exploration = Exploration(capture)
    nodes = [
        (tree.octets, node)
        for row in exploration.rows
        for tree in [exploration.tree(row.number)]
        for node in tree.nodes
    ]
    domains = [octets[node.start : node.end] for octets, node in nodes if node.field == "smtp.rcpt.recipient.domain"]
    assert domains == [b"mail.example"]


def test_opened_bytes_follow_the_packet_as_a_part_of_their_own(secret: labkit.Capture) -> None:
    exploration = Exploration(secret)
    row = next(row for row in exploration.rows if "rcpt TO" in row.info)
    tree = exploration.tree(row.number)
    packet, inside = tree.parts
    assert row.protocol == "TLS"
    assert tree.octets[packet.start : packet.end] == secret.named_frames[row.number - 1].data
    assert tree.octets[inside.start : inside.end] == b"rcpt TO:<taro@mail.example>\r\n"
    assert untiled(tree.spans, 0, len(tree.octets)) == ""


def test_bytes_that_come_twice_are_explained_once(capture: labkit.Capture) -> None:
    """A packet that brings again what was there, and something new after it."""
    frames = list(capture.named_frames)
    number = next(row.number for row in Exploration(capture).rows if "rcpt" in row.info.lower())
    rcpt = frames[number - 1]
    cut = rcpt.data[:-10]
    first = Frame(rcpt.time, cut[:16] + (len(cut) - 14).to_bytes(2, "big") + cut[18:], len(cut))
    again = Exploration(Packets([*frames[: number - 1], first, *frames[number - 1 :]]))
    fields = [node.field for node in again.tree(number + 1).nodes]
    assert "tcp.again" in fields
    assert any(field.startswith("smtp.rcpt") for field in fields)
    assert untiled(again.tree(number + 1).spans, 0, len(rcpt.data)) == ""


def test_a_list_and_a_packet_are_bounded(capture: labkit.Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKETS", 5)
    monkeypatch.setattr(module, "OCTETS", 60)
    monkeypatch.setattr(module, "NODES", 4)
    exploration = Exploration(capture)
    assert len(exploration.rows) == 5
    assert exploration.note == f"The first 5 of {len(capture.frames)} packets."
    tree = exploration.tree(4)
    assert (len(tree.octets), len(tree.nodes)) == (60, 4)
    left_out = len(capture.frames[3].data) - 60
    assert tree.note == f"Not shown: {left_out} bytes more. The tree stops at 4 fields."
    with pytest.raises(IndexError):
        exploration.tree(6)


@given(st.lists(st.tuples(st.binary(max_size=90), st.sampled_from([0, 1, 101, 113, 276, 999])), max_size=6))
def test_any_bytes_make_rows_and_trees(packets: list[tuple[bytes, int]]) -> None:
    frames = [Frame(time, data, len(data), link) for time, (data, link) in enumerate(packets)]
    exploration = Exploration(Packets(frames))
    assert len(exploration.rows) == len(frames)
    for row in exploration.rows:
        assert untiled(exploration.tree(row.number).spans, 0, row.length) == ""


def test_what_is_sent_to_the_page_is_harmless_data(capture: labkit.Capture) -> None:
    explorer: Any = explore(capture)
    sent: list[dict[str, Any]] = []
    explorer.send = sent.append
    count = len(explorer.packets)
    for asked in ({"packet": number} for number in range(1, count + 1)):
        explorer._handle_custom_msg(asked, [])
    for asked in ({"packet": 0}, {"packet": count + 1}, {"packet": "1"}, {"packet": None}, {}, [], "x", None):
        explorer._handle_custom_msg(asked, [])
    assert [tree["number"] for tree in sent] == list(range(1, count + 1))
    text = json.dumps([explorer.packets, sent], ensure_ascii=False)
    assert "<script>alert(1)</script>" in text
    assert all(character.isprintable() for character in text)


def test_the_output_holds_the_static_view_too(capture: labkit.Capture) -> None:
    data, _metadata = explore(capture)._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert data["text/plain"] == capture.explain().text()
    assert data["text/html"] == capture.explain().html()


def test_an_exported_notebook_shows_the_static_view(capture: labkit.Capture) -> None:
    import nbformat
    from nbconvert import HTMLExporter

    data, metadata = explore(capture)._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
    cell = nbformat.v4.new_code_cell("labkit.explore(capture)", outputs=[output])
    html, _resources = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert 'class="labkit-tree"' in html
    assert "widget-view+json" not in html


def test_without_anywidget_it_is_the_static_view(capture: labkit.Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "labkit.show.widget", None)
    assert isinstance(explore(capture), Explanation)
