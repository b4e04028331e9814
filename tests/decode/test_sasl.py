"""AUTH step by step, against the examples that the RFCs print."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.decode import sasl
from labkit.decode.spans import Span, Visibility, leaves, untiled


def answer(text: bytes, mechanism: str, index: int = 0) -> list[Span]:
    data = b"xx" + base64.b64encode(text) + b"\r\n"
    spans = sasl.response(data, 2, len(data) - 2, mechanism, index)
    assert untiled(spans, 2, len(data) - 2) == ""
    return list(leaves(spans))


def values(spans: list[Span]) -> dict[str, str]:
    return {span.field: span.value for span in spans}


def test_plain_of_rfc_4616_with_an_authorization_identity() -> None:
    spans = answer(b"Ursel\0Kurt\0xipj3plmq", "PLAIN")
    assert [span.field for span in spans] == [
        "sasl.plain.authzid",
        "sasl.plain.nul",
        "sasl.plain.authcid",
        "sasl.plain.nul",
        "sasl.plain.password",
    ]
    assert values(spans) == {
        "sasl.plain.authzid": "Ursel",
        "sasl.plain.nul": "NUL",
        "sasl.plain.authcid": "Kurt",
        "sasl.plain.password": "xipj3plmq",
    }
    assert {span.visibility for span in spans} == {Visibility.ENCODED}


def test_a_character_belongs_to_the_part_that_its_first_bit_belongs_to() -> None:
    data = base64.b64encode(b"\0tim\0tanstaaftanstaaf")  # RFC 4954 section 4.1 and RFC 2595 section 6
    spans = list(leaves(sasl.response(data, 0, len(data), "PLAIN", 0)))
    assert [(span.field.rpartition(".")[2], data[span.start : span.end]) for span in spans] == [
        ("nul", b"A"),
        ("authcid", b"HRpb"),
        ("nul", b"Q"),
        ("password", b"B0YW5zdGFhZnRhbnN0YWFm"),
    ]


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda part: b"\0" not in part), min_size=2, max_size=2))
def test_plain_is_cut_so_that_every_part_can_be_pointed_at(parts: list[bytes]) -> None:
    spans = answer(b"\0" + b"\0".join(parts), "PLAIN")
    assert [span.field.rpartition(".")[2] for span in spans] == ["nul", "authcid", "nul", "password"]


def test_plain_without_three_parts_is_said_to_be_invalid() -> None:
    assert values(answer(b"hanako", "PLAIN")) == {"sasl.plain.invalid": "hanako"}


def test_login_asks_for_the_name_and_then_for_the_password() -> None:
    assert values(answer(b"hanako", "LOGIN", 0)) == {"sasl.login.name": "hanako"}
    assert values(answer(b"secret", "LOGIN", 1)) == {"sasl.login.password": "secret"}
    prompt = base64.b64encode(b"Username:")
    (span,) = leaves(sasl.challenge(prompt, 0, len(prompt), "LOGIN"))
    assert (span.field, span.value) == ("sasl.login.prompt", "Username:")


def test_cram_md5_of_rfc_2195() -> None:
    spans = answer(b"tim b913a602c7eda7a495b4e6e7334d3890", "CRAM-MD5")
    assert [(span.field, span.value, span.visibility) for span in spans] == [
        ("sasl.cram.name", "tim", Visibility.ENCODED),
        ("sasl.cram.space", " ", Visibility.ENCODED),
        ("sasl.cram.digest", "b913a602c7eda7a495b4e6e7334d3890", Visibility.GUESSABLE),
    ]
    challenge = b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
    (span,) = leaves(sasl.challenge(challenge, 0, len(challenge), "CRAM-MD5"))
    assert span.value == "<1896.697170952@postoffice.reston.mci.net>"


def test_scram_of_rfc_5802() -> None:
    first = answer(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", "SCRAM-SHA-1")
    assert [(span.field, span.value) for span in first if span.field != "sasl.scram.comma"] == [
        ("sasl.scram.gs2", "n"),
        ("sasl.scram.name", "user"),
        ("sasl.scram.nonce", "fyko+d2lbbFgONRv9qkxdawL"),
    ]
    server_first = base64.b64encode(b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096")
    told = values(list(leaves(sasl.challenge(server_first, 0, len(server_first), "SCRAM-SHA-1"))))
    assert told["sasl.scram.salt"] == "QSXCR+Q6sek8bf92"
    assert told["sasl.scram.iterations"] == "4096"
    final = answer(b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "SCRAM-SHA-1")
    assert [span.visibility for span in final if span.field == "sasl.scram.proof"] == [Visibility.GUESSABLE]
    assert values(final)["sasl.scram.proof"] == "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    verifier = base64.b64encode(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    (span,) = leaves(sasl.challenge(verifier, 0, len(verifier), "SCRAM-SHA-1"))
    assert span.field == "sasl.scram.verifier"


def test_scram_names_with_a_comma_and_channel_binding() -> None:
    told = values(answer(b"p=tls-exporter,,n=a=2Cb=3Dc,r=x", "SCRAM-SHA-256-PLUS"))
    assert told["sasl.scram.gs2"] == "p=tls-exporter"
    assert told["sasl.scram.name"] == "a,b=c"


def test_xoauth2_and_oauthbearer() -> None:
    told = values(
        answer(
            b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01", "XOAUTH2"
        )
    )
    assert told["sasl.oauth.name"] == "someuser@example.com"
    assert told["sasl.oauth.token"].startswith("Bearer ya29.")
    bearer = b"n,a=user@example.com,\x01host=server.example.com\x01port=587\x01auth=Bearer vF9dft4qm\x01\x01"
    told = values(answer(bearer, "OAUTHBEARER"))  # RFC 7628 section 4.1
    assert (told["sasl.oauth.name"], told["sasl.oauth.port"]) == ("user@example.com", "587")


@pytest.mark.parametrize(
    ("line", "field"), [(b"*", "sasl.cancel"), (b"=", "sasl.empty"), (b"not base64!", "sasl.invalid")]
)
def test_what_is_not_base64(line: bytes, field: str) -> None:
    (span,) = sasl.response(line, 0, len(line), "PLAIN", 0)
    assert (span.field, span.start, span.end) == (field, 0, len(line))


@given(
    st.binary(max_size=60), st.sampled_from(["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2", "GSSAPI", ""])
)
def test_anything_is_tiled(decoded: bytes, mechanism: str) -> None:
    data = base64.b64encode(decoded)
    for spans in (sasl.response(data, 0, len(data), mechanism, 1), sasl.challenge(data, 0, len(data), mechanism)):
        assert untiled(spans, 0, len(data)) == ""
