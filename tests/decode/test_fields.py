"""Counts in words: one is one, wherever it is told."""

import re

import pytest

from labkit.decode.dissection import dissect
from labkit.decode.fields import how_long, octets
from labkit.decode.spans import leaves
from labkit.wire.flows import Side
from tests.decode.conftest import C, S, flow_of


@pytest.mark.parametrize(("count", "words"), [(0, "0 octets"), (1, "1 octet"), (2, "2 octets")])
def test_octets_in_words(count: int, words: str) -> None:
    assert octets(count) == how_long(bytes(count)) == words


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (25, [(S, b"220 x\r\n"), (C, b"BDAT 1 LAST\r\nx")]),
        (9999, [(C, b"x"), (S, b"y")]),
        (465, [(C, b"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03\x00\x01x"), (S, b"?")]),
        (465, [(C, b"\x16\x03\x01\x00\x05\x01\x00\x00\x00"), (S, b"\x17\x03\x03\x00\x02x")]),
    ],
)
def test_one_of_something_is_told_in_the_singular(port: int, said: list[tuple[Side, bytes]]) -> None:
    conversation = dissect(flow_of(said, port=port))
    told = [line.text for line in conversation.lines]
    for side in Side:
        told += [span.value + span.meaning for top in conversation.spans(side) for span in (top, *leaves([top]))]
    assert re.search(r"\b1 (byte|octet)\b", " ".join(told))
    assert not re.search(r"\b1 (bytes|octets|suites)\b", " ".join(told))
