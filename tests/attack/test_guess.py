"""Guessing offline, against the examples that the RFCs print and against the lab's own providers."""

import base64
from collections.abc import Callable

import pytest

import labkit
from labkit.attack import WORDS, guess
from labkit.errors import LabError
from labkit.mail.sample import LESSON_ACCOUNTS, sample_message

Play = Callable[..., labkit.Capture]


def b64(text: bytes) -> bytes:
    return base64.b64encode(text)


def test_rfc_2195_section_2(play: Play) -> None:
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    digest = b"tim b913a602c7eda7a495b4e6e7334d3890"
    capture = play(
        587, b"220 ready", b"EHLO a", b"250 AUTH CRAM-MD5", b"AUTH CRAM-MD5", b"334 " + b64(challenge), b64(digest),
        b"235 in", b"QUIT", b"221 bye",
    )  # fmt: skip
    result = guess(capture, ["tanstaa", "tanstaaftanstaaf", "never tried"])
    assert (result.login, result.password, result.tried) == ("tim", "tanstaaftanstaaf", 2)


def test_rfc_1939_section_7(play: Play) -> None:
    capture = play(
        110, b"+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>", b"APOP mrose c4c9334bac560ecc979e58001b3e22fb",
        b"+OK maildrop has 1 message (369 octets)", b"QUIT", b"+OK",
    )  # fmt: skip
    result = guess(capture, ["tanstaf", "tanstaaf"])
    assert (result.login, result.mechanism, result.password) == ("mrose", "APOP", "tanstaaf")


def test_rfc_7677_section_3(play: Play) -> None:
    nonce = b"rOprNGfwEbeRWgbNEkqO"
    server = nonce + b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    capture = play(
        587, b"220 ready", b"EHLO a", b"250 AUTH SCRAM-SHA-256",
        b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=user,r=" + nonce),
        b"334 " + b64(b"r=" + server + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
        b64(b"c=biws,r=" + server + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
        b"334 " + b64(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), b"", b"235 in", b"QUIT", b"221 bye",
    )  # fmt: skip
    result = guess(capture, ["Pencil", "pencil"])
    assert (result.login, result.password, result.iterations) == ("user", "pencil", 4096)


@pytest.mark.parametrize(
    ("way", "pop3"),
    [("CRAM-MD5", False), ("CRAM-MD5", True), ("SCRAM-SHA-256", False), ("SCRAM-SHA-256", True), ("APOP", True)],
)
def test_the_simple_password_falls_and_the_other_does_not(way: str, pop3: bool) -> None:
    near = WORDS[WORDS.index("sakura") - 5 :][:12]  # SCRAM is slow on purpose
    with labkit.Provider("smtp-auth", repeatable=True) as provider:
        for account in LESSON_ACCOUNTS:
            with provider.capture() as capture:
                if pop3:
                    provider.client(account.local_part, pop3_login=way).check()
                else:
                    provider.client(account.local_part, mechanism=way).send(sample_message())
            result = guess(capture, near)
            found = account.password == "sakura"
            assert result.login == account.login
            assert result.password == ("sakura" if found else None)
            assert result.tried == (6 if found else 12)
            assert result == guess(capture, near)  # speed is not part of it
            assert result.guesses_per_second > 0
            assert result.text() == guess(capture, near).text()


def test_the_whole_list_against_cram_md5() -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider, provider.capture() as capture:
        provider.client("hanako", mechanism="CRAM-MD5").send(sample_message())
    result = guess(capture)
    assert result.text().splitlines() == [
        "Words tried against a captured login",
        "  login name         hanako",
        "  mechanism          CRAM-MD5",
        f"  words tried        {WORDS.index('sakura') + 1}",
        "  iterations a word  1",
        "  password           sakura",
        "The password is found, and the server has noticed nothing: a simple password is no protection",
        "here.",
    ]
    assert "sakura" in result.html()


def test_a_password_beyond_ascii_is_prepared_as_scram_wants_it() -> None:
    account = labkit.Account("hanako@mail.example", "Hanako", "ｻｸﾗ", "x")  # half-width: SASLprep makes it full-width
    with labkit.Provider("smtp-auth", accounts=[account]) as provider, provider.capture() as capture:
        provider.client("hanako", pop3_login="SCRAM-SHA-256").check()
    assert guess(capture, ["\u0221", "サクラ"]).password == "サクラ"  # the first is no SCRAM password at all


def test_the_word_list() -> None:
    assert 300 < len(WORDS) < 1000
    assert len(set(WORDS)) == len(WORDS)
    assert "sakura" in WORDS
    assert "fuji3776" not in WORDS
    assert all(word.isascii() and word.isprintable() for word in WORDS)


@pytest.mark.parametrize("way", ["PLAIN", "LOGIN"])
def test_what_needs_no_guessing_is_not_guessed(way: str) -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider, provider.capture() as capture:
        provider.client("hanako", mechanism=way).send(sample_message())
    with pytest.raises(LabError, match="CRAM-MD5"):
        guess(capture)


@pytest.mark.parametrize(
    "lines",
    [
        (b"AUTH CRAM-MD5", b"334 PDFAYT4=", b"*", b"501 cancelled"),
        (b"AUTH CRAM-MD5", b"334 PDFAYT4=", b"dGlt", b"501 bad"),
        (b"AUTH CRAM-MD5", b"334 ???", b"dGltIHp6eg==", b"535 no"),
        (b"AUTH CRAM-MD5", b"454 not now"),
        (b"AUTH SCRAM-SHA-256 biwsbj1hLHI9Yg==", b"535 no"),
        (b"AUTH SCRAM-SHA-256 biwsbj1hLHI9Yg==", b"334 cj1iYyxzPWMsaT0w", b"Yz1iaXdzLHI9YmMscD1h", b"535 no"),
        # 99,999,999,999 iterations
        (b"AUTH SCRAM-SHA-256 biwsbj1h", b"334 cj1iYyxzPWFhYWEsaT05OTk5OTk5OTk5OQ==", b"Yz1iaXdzLHI9YmMscD1hYWFh", b"535"),
    ],
)  # fmt: skip
def test_half_a_login_is_not_enough(play: Play, lines: tuple[bytes, ...]) -> None:
    capture = play(587, b"220 ready", b"EHLO a", b"250 hello", *lines, b"QUIT", b"221 bye")
    with pytest.raises(LabError, match="not complete"):
        guess(capture)


def test_a_string_is_one_word() -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider, provider.capture() as capture:
        provider.client("hanako", mechanism="CRAM-MD5").send(sample_message())
    result = guess(capture, "sakura")
    assert (result.password, result.tried) == ("sakura", 1)


def test_what_is_no_capture() -> None:
    with pytest.raises(LabError, match=r"^'a\.pcap' does not belong here: give a capture"):
        guess("a.pcap")  # type: ignore[arg-type]
