"""The table of meanings: whole sentences, found by the catalogue, and not to be chosen by whoever sends bytes."""

import csv
from importlib.resources import files
from io import BytesIO

import pytest

from labkit.decode.dissection import dissect
from labkit.decode.meanings import meaning_of, own_meaning, sentences
from labkit.decode.spans import leaves
from tests.decode.conftest import C, S, flow_of

TABLE = files("labkit.decode") / "meanings.csv"


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(TABLE.read_text("utf-8").splitlines()))


def rows_under(field: str) -> set[str]:
    """The last words, in upper case, of the rows directly under a field."""
    return {row["field"].rpartition(".")[2].upper() for row in rows() if row["field"].rpartition(".")[0] == field}


def test_each_field_has_one_row_and_the_rows_are_in_order() -> None:
    fields = [row["field"] for row in rows()]
    assert fields == sorted(set(fields))
    assert all(row["meaning"] or row["source"] for row in rows())


def test_the_catalogue_finds_every_sentence() -> None:
    found = {message for _number, _function, message, _comments in sentences(BytesIO(TABLE.read_bytes()), options={})}
    assert found == {row["meaning"] for row in rows()} - {""}


def test_a_field_has_its_own_row_or_one_for_its_last_word_or_that_of_the_field_around_it() -> None:
    assert meaning_of("smtp.bdat.size").source == "RFC 3030 section 2"
    assert meaning_of("smtp.rcpt.recipient.open").sentence == "The address begins."
    assert meaning_of("smtp.ehlo.verb") == meaning_of("smtp.ehlo")
    assert own_meaning("smtp.ehlo.verb") == meaning_of("nothing.known") == ("", "")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ([(C, b"CONTENT 1\r\n"), (S, b"-ERR\r\n")], "pop3.unknown.verb"),
        ([(C, b"TOP.LINES 1\r\n"), (S, b"-ERR\r\n")], "pop3.unknown.verb"),
        ([(C, b"RETR 1\r\n"), (S, b"+OK\r\nAttachment: x\r\nText: y\r\n\r\n.\r\n")], "message.other"),
    ],
)
def test_who_sends_bytes_chooses_no_row(said: list[tuple[object, bytes]], field: str) -> None:
    dissection = dissect(flow_of([(S, b"+OK x\r\n"), *said], port=110))  # type: ignore[list-item]
    fields = {span.field for side in (C, S) for span in leaves(dissection.spans(side))}
    assert field in fields
    assert not fields & {"pop3.content", "message.text", "message.attachment", "pop3.top.lines"}


@pytest.mark.parametrize("name", [b"Length", b"Domain", b"Subject.x"])
def test_a_header_field_of_an_unknown_name_means_no_more_than_that(name: bytes) -> None:
    said = [(S, b"+OK x\r\n"), (C, b"RETR 1\r\n"), (S, b"+OK\r\n" + name + b": 5; rest=1\r\n\r\nx\r\n.\r\n")]
    (told,) = [span for span in leaves(dissect(flow_of(said, port=110)).server_spans) if span.field == "message.other"]
    assert (told.meaning, told.source) == meaning_of("header")


def test_a_parameter_of_an_unknown_name_means_no_more_than_that() -> None:
    said = [(S, b"+OK x\r\n"), (C, b"RETR 1\r\n"), (S, b"+OK\r\nContent-Type: text/plain; length=5\r\n\r\nx\r\n.\r\n")]
    spans = leaves(dissect(flow_of(said, port=110)).server_spans)
    (told,) = [span for span in spans if span.field == "message.content-type.parameter"]
    assert told.meaning == meaning_of("mime.parameter").sentence


def test_an_extension_named_client_is_not_the_clients_name() -> None:
    said = [(S, b"220 x\r\n"), (C, b"EHLO c\r\n"), (S, b"250-x\r\n250 CLIENT server\r\n")]
    fields = {span.field for span in leaves(dissect(flow_of(said)).server_spans)}
    assert "smtp.ehlo.other.keyword" in fields
    assert "smtp.ehlo.client" not in fields
