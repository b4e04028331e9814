"""Mail messages: what Python's own email package makes of a message is what the spans say of it."""

import email
import email.policy
from email.header import Header
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.decode.dissection import dissect
from labkit.decode.message import content, from_base64, in_charset, message, stuffed, unfold_words
from labkit.decode.spans import Span, Visibility, leaves, untiled
from tests.conftest import examples
from tests.decode.conftest import C, S, flow_of


def fields(data: bytes) -> list[Span]:
    spans = message(data, 0, len(data))
    assert untiled(spans, 0, len(data)) == ""
    return list(leaves(spans))


def one(data: bytes, field: str) -> Span:
    found = [span for span in fields(data) if span.field == field]
    assert len(found) == 1, [span.field for span in fields(data)]
    return found[0]


def a_letter() -> EmailMessage:
    letter = EmailMessage(policy=email.policy.SMTP)
    letter["From"] = "山田花子 <hanako@mail.example>"
    letter["To"] = "taro@mail.example"
    letter["Subject"] = "A picture 写真 for you, with a subject that is long enough to be folded over several lines"
    letter.set_content("Good morning.\nおはようございます。\n", cte="base64")
    letter.add_alternative("<p>Good morning</p>\n", subtype="html", cte="quoted-printable")
    letter.add_attachment(b"\x89PNG\r\n" + bytes(range(256)), maintype="image", subtype="png", filename="写真.png")
    return letter


def test_the_parts_of_a_real_message() -> None:
    letter = a_letter()
    data = letter.as_bytes()
    body = letter.get_body(("plain",))
    assert body is not None
    assert one(data, "message.text").value == body.get_payload(decode=True).decode()
    assert one(data, "message.text").visibility is Visibility.ENCODED
    assert one(data, "message.html").visibility is Visibility.ENCODED
    assert one(data, "message.subject").value == str(letter["Subject"])
    assert one(data, "message.subject").visibility is Visibility.ENCODED
    assert one(data, "message.from").value == str(letter["From"])
    assert one(data, "message.to").visibility is Visibility.READABLE
    attachment = one(data, "message.attachment")
    assert attachment.value == "写真.png, image/png, 262 octets"
    assert from_base64(data[attachment.start : attachment.end]) == next(letter.iter_attachments()).get_content()
    assert len([span for span in fields(data) if span.field == "message.boundary"]) == 6


def test_a_boundary_owns_the_line_end_before_it() -> None:
    data = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\none\r\n--b--\r\nend'  # RFC 2046 section 5.1.1
    )
    text = one(data, "message.text")
    assert data[text.start : text.end] == b"one"
    last = [span for span in fields(data) if span.field == "message.boundary"][-1]
    assert data[last.start : last.end] == b"\r\n--b--\r\n"
    assert one(data, "message.epilogue").value == "end"


def test_a_word_that_begins_like_a_boundary_is_none() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--bc\r\nx --b\r\n--b--\r\n"
    assert one(data, "message.text").value == "--bc\r\nx --b"


def test_an_attached_message_keeps_its_subject_to_itself() -> None:
    outer = EmailMessage(policy=email.policy.SMTP)
    outer["Subject"] = "outer"
    outer.set_content("see below\n")
    outer.add_attachment(a_letter())
    data = outer.as_bytes()
    assert one(data, "message.subject").value == "outer"
    assert one(data, "message.attached.subject").value == str(a_letter()["Subject"])


@pytest.mark.parametrize(
    ("raw", "value"),
    [  # RFC 2047 section 8
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\r\n  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?utf-8?B?5pel?= =?utf-8?B?5pys?=", "日本"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?x-unknown?Q?plain?=", "plain"),
        (b"folded\r\n value", "folded value"),
    ],
)
def test_encoded_words(raw: bytes, value: str) -> None:
    assert unfold_words(raw) == value


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]), min_size=1, max_size=40))
def test_encoded_words_come_back_from_the_standard_library(subject: str) -> None:
    raw = Header(subject, "utf-8").encode().replace("\n", "\r\n").encode()
    assert unfold_words(raw) == subject


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"attachment; filename=a.txt", "a.txt"),
        (b'attachment; filename="a; b.txt"', "a; b.txt"),
        (b'attachment; filename="quo\\"te.txt"', 'quo"te.txt'),
        (b"attachment; filename*=utf-8''%e6%97%a5.txt", "日.txt"),
        (b"attachment; filename*0*=utf-8''%e6%97; filename*1*=%a5; filename*2=.txt", "日.txt"),  # RFC 2231 section 4.1
        (b'attachment; filename="=?utf-8?B?5pel?=.txt"', "日.txt"),
    ],
)
def test_names_of_attachments(header: bytes, name: str) -> None:
    data = b"Content-Type: application/octet-stream\r\nContent-Disposition: " + header + b"\r\n\r\n1234"
    assert one(data, "message.attachment").value == f"{name}, application/octet-stream, 4 octets"


@pytest.mark.parametrize("charset", ["x-unknown", "unicode_escape", "idna", "hex", "rot13", "utf\0-8", "undefined", ""])
def test_a_charset_that_is_none_is_read_as_utf8(charset: str) -> None:
    assert in_charset("日\\q".encode(), charset) == "日\\q"


def test_dot_stuffing_and_the_terminator() -> None:
    wire = b"Subject: dots\r\n\r\n..one\r\nmiddle\r\n...\r\n.\r\n"  # RFC 5321 section 4.5.2
    spans = content(wire, 0, len(wire), len(wire) - 3)
    assert untiled(spans, 0, len(wire)) == ""
    found = list(leaves(spans))
    assert [span.start for span in found if span.field == "message.stuffing"] == [
        wire.index(b"..one"),
        wire.index(b"...\r"),
    ]
    assert {span.value for span in found if span.field == "message.text"} == {".one\r\nmiddle\r\n..\r\n"}
    assert (found[-1].field, found[-1].start) == ("message.terminator", len(wire) - 3)


@settings(max_examples=examples(200))
@given(
    st.lists(st.sampled_from([b".", b"..", b".x", b"x", b"", b"Subject: .", b"--b", b"."]), max_size=8), st.booleans()
)
def test_stuffed_dots_are_found_wherever_a_line_begins_with_one(lines: list[bytes], multipart: bool) -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n" if multipart else b""
    clean = head + b"".join(line + b"\r\n" for line in lines)
    wire = b"".join((b"." if line.startswith(b".") else b"") + line for line in clean.splitlines(keepends=True))
    spans = stuffed(wire, 0, len(wire))
    assert untiled(spans, 0, len(wire)) == ""
    kept = b"".join(wire[span.start : span.end] for span in leaves(spans) if span.field != "message.stuffing")
    assert kept == clean


def test_a_message_in_several_chunks_is_one_message() -> None:
    letter = a_letter().as_bytes()
    pieces = [letter[:30], letter[30:700], letter[700:]]
    said = [(S, b"220 x\r\n"), (C, b"EHLO x\r\n"), (S, b"250 x\r\n")]
    for number, piece in enumerate(pieces):
        last = b" LAST" if number == 2 else b""
        said += [(C, b"BDAT %d%s\r\n" % (len(piece), last) + piece), (S, b"250 ok\r\n")]
    conversation = dissect(flow_of(said))
    data = conversation.flow.client_stream.data
    assert untiled(conversation.client_spans, 0, len(data)) == ""
    told = {span.field: span.value for span in leaves(conversation.client_spans)}
    assert told["message.attachment"] == "写真.png, image/png, 262 octets"
    assert told["message.subject"] == str(a_letter()["Subject"])
    assert [command.verb for command in conversation.commands] == ["EHLO", "BDAT", "BDAT", "BDAT"]
