"""The course's letter is the same bytes on every Python and survives the standard library's own writer."""

import hashlib
from email.policy import SMTP

from labkit.mail.sample import LESSON_ACCOUNTS, sample_message

HANAKO, TARO = LESSON_ACCOUNTS


def test_the_letter_is_fixed_to_the_byte() -> None:
    content = sample_message().as_bytes(policy=SMTP)
    assert hashlib.sha256(content).hexdigest() == "0e8a86760c726c5935fd10f880da71c5132e0d147fdf3d0ab258221f74506087"
    assert content.isascii() is False
    assert content.endswith(b"--=_lunch--\r\n")


def test_it_carries_text_in_two_languages_and_a_png() -> None:
    text, picture = sample_message().iter_parts()
    assert "Noon at the station?" in text.get_content()
    assert "正午に駅前で" in text.get_content()
    assert picture.get_filename() == "map.png"
    assert picture.get_content().startswith(b"\x89PNG\r\n\x1a\n")


def test_it_goes_to_the_other_one() -> None:
    assert sample_message(HANAKO)["To"] == "Taro Suzuki <taro@mail.example>"
    assert sample_message(TARO)["To"] == "Hanako Yamada <hanako@mail.example>"
