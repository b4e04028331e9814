"""The explorer: what its page holds, that it is data and bounded, and what is seen of it without scripts."""

import html
import json
import re
from typing import Any

import pytest

import labkit
from labkit.decode.spans import Span
from labkit.errors import BadSetting
from labkit.show import explore as module
from labkit.show.explore import Explorer, explore


def record() -> labkit.Capture:
    """A message sent and read; its subject is hostile."""
    message = labkit.sample_message()
    message.replace_header("Subject", "</script><script>alert(1)</script>")
    with labkit.Provider("smtp-auth", repeatable=True) as provider, provider.capture(engine="tap") as recorded:
        provider.client("hanako").send(message)
        provider.client("taro").receive()
    return recorded


@pytest.fixture(scope="module")
def capture() -> labkit.Capture:
    return record()


def packed(explorer: Explorer) -> dict[str, Any]:
    """The data as a page has it."""
    found = re.search(r'<script type="application/json">(.*?)</script>', str(explorer.body()), re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_a_files_name_is_no_capture() -> None:
    with pytest.raises(BadSetting, match="give a capture"):
        explore("message.pcapng")  # type: ignore[arg-type]


def test_the_page_holds_every_entry_as_harmless_data(capture: labkit.Capture) -> None:
    for explorer in (explore(capture), explore(capture).exact()):
        data = packed(explorer)
        assert len(data["trees"]) == len(data["entries"])
        assert any("</script><script>alert(1)" in text for text in data["texts"])
        assert all(text.isprintable() for text in data["texts"])
        assert str(explorer.body()).count("</script>") == 2
    assert len(packed(explore(capture).exact())["entries"]) == len(capture.frames)


def test_a_tree_is_unpacked_to_its_nodes(capture: labkit.Capture) -> None:
    data = packed(explore(capture))
    octets, _parts, numbers, _note = data["trees"][1]
    first = [int(number) for number in numbers.split()[:8]]
    assert bytes.fromhex(octets) == b"ehlo client.example\r\n"
    assert first[:3] == [0, 0, 21]
    assert data["texts"][first[4]].startswith("smtp.")


def test_a_notebooks_output_repeats_and_is_framed_without_the_notebooks_rights(capture: labkit.Capture) -> None:
    shown = explore(capture)
    assert shown.html() == explore(record()).html()
    frame = re.search(r'<iframe[^>]* sandbox="allow-scripts" srcdoc="([^"]*)"', shown.html())
    assert frame
    page = html.unescape(frame[1])
    assert page.startswith("<!DOCTYPE html>")
    assert "49152" not in page
    assert shown.text() == capture.explain().text()


def test_without_scripts_there_is_the_static_explanation(capture: labkit.Capture) -> None:
    assert str(capture.explain().body()) in explore(capture).html()


def test_the_page_is_bounded(capture: labkit.Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NODES", 4)
    monkeypatch.setattr(module, "ALL_NODES", 9)
    data = packed(explore(capture))
    assert len(data["trees"]) == len(data["entries"]) == 1
    assert data["note"] == f"The first 1 of {len(module.Bursts(capture).entries)}."
    assert len(data["trees"][0][2].split()) == 4 * 8
    assert data["trees"][0][3] == "The tree stops at 4 fields."


def test_nodes_are_in_the_order_of_the_tree() -> None:
    inner = Span(2, 5, "inner", "v\x1b", "m")
    found = list(module.nodes([Span(0, 5, "outer", children=(Span(0, 2, "first"), inner))]))
    assert [(node.depth, node.field) for node in found] == [(0, "outer"), (1, "first"), (1, "inner")]
    assert found[2].value == "v␛"
