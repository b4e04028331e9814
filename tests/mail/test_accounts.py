"""Accounts: names, values that no protocol could carry, and a comparison that tells nothing by its time."""

import hashlib
import hmac
from typing import Any

import pytest

from labkit.errors import LabError
from labkit.mail import accounts as module
from labkit.mail.accounts import Account, Accounts, BadAccount, default_accounts, random_password
from labkit.mail.policy import LoginFormat


def an_account(**values: Any) -> Account:
    """An account that is right but for these values."""
    return Account(
        **{
            "address": "hanako@mail.example",
            "full_name": "Hanako Yamada",
            "password": "correct horse",
            "separate_login": "m1001-hy",
            **values,
        }
    )


def test_the_three_login_names() -> None:
    account = an_account()
    assert [account.login_name(form) for form in LoginFormat] == ["hanako", "hanako@mail.example", "m1001-hy"]
    assert an_account(login_format=LoginFormat.ADDRESS).login == "hanako@mail.example"


def test_default_accounts_have_passwords_of_their_own() -> None:
    first, second = default_accounts(), default_accounts()
    assert [account.address for account in first] == ["hanako@mail.example", "taro@mail.example"]
    assert len({account.password for account in (*first, *second)}) == 4


def test_no_random_password_looks_like_an_option() -> None:
    """swaks reads the word behind `-ap` that begins with a dash as its next option."""
    assert all(len(word) == 16 and word.isalnum() for word in (random_password() for _ in range(1000)))
    assert all(account.password.isalnum() for _ in range(200) for account in default_accounts())


@pytest.mark.parametrize(
    "values",
    [
        {"address": "hanako"},
        {"address": "@mail.example"},
        {"address": "hanako@"},
        {"address": "hanako@mail..example"},
        {"address": "hanako yamada@mail.example"},
        {"address": "hanako@mail.example\r\nRCPT TO:<x@y.example>"},
        {"address": "../../etc@mail.example"},
        {"full_name": "Hanako\nBcc: x@y.example"},
        {"password": "a\0b"},
        {"password": "a\rb"},
        {"password": ""},
        {"password": "\ud800"},
        {"separate_login": "a\nb"},
        {"separate_login": "two words", "login_format": LoginFormat.SEPARATE},
        {"separate_login": "", "login_format": LoginFormat.SEPARATE},
    ],
)
def test_values_that_no_mail_protocol_could_carry(values: dict[str, Any]) -> None:
    with pytest.raises(BadAccount) as refused:
        an_account(**values)
    assert isinstance(refused.value, LabError)
    assert not any(ord(character) < 32 for character in str(refused.value))


@pytest.mark.parametrize(
    "address", ["花子@メール.example", "o'hara+lab@mail.example", "a/b@mail.example", "x@localhost"]
)
def test_unusual_addresses_are_addresses(address: str) -> None:
    assert an_account(address=address).address == address


def test_two_accounts_cannot_share_a_name() -> None:
    with pytest.raises(BadAccount):
        Accounts([an_account(), an_account(address="Hanako@other.example")])
    separate = LoginFormat.SEPARATE
    with pytest.raises(BadAccount):
        Accounts([an_account(login_format=separate), an_account(address="taro@mail.example", login_format=separate)])


def test_an_address_has_no_case_and_a_login_has() -> None:
    accounts = Accounts([an_account()])
    assert accounts.by_address("HANAKO@Mail.Example") == accounts["hanako"]
    assert accounts.by_address("nobody@mail.example") is None
    assert accounts.domains == {"mail.example"}
    assert accounts.check_password("HANAKO", "correct horse") is None


def test_check_password() -> None:
    accounts = Accounts([an_account()])
    assert accounts.check_password("hanako", "correct horse") == accounts["hanako"]
    for login, password in (
        ("hanako", "correct hors"),
        ("hanako", ""),
        ("nobody", "correct horse"),
        ("nobody", ""),
        ("", ""),
    ):
        assert accounts.check_password(login, password) is None
    assert accounts.check_password("nobody", accounts.secret("nobody")) is None


def test_every_comparison_is_of_two_digests_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watched(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return compare(a, b)

    monkeypatch.setattr(module.hmac, "compare_digest", watched)
    accounts = Accounts([an_account()])
    for login in ("hanako", "nobody"):
        for password in ("", "a", "correct horse", "x" * 5000):
            accounts.check_password(login, password)
    assert compared == [(32, 32)] * 8


def test_a_login_that_nobody_has_keeps_its_salt() -> None:
    accounts = Accounts([an_account()])
    assert accounts.salt("nobody") == accounts.salt("nobody") != accounts.salt("hanako")
    assert len(accounts.salt("nobody")) == len(accounts.salt("hanako")) == 16


def test_scram_keys_are_derived_once_and_an_unknown_login_has_some_like_them(monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []
    derive = hashlib.pbkdf2_hmac
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *given: derived.append(given) or derive(*given))
    accounts = Accounts([an_account(), an_account(address="taro@mail.example", password="\u0378")])
    accounts.derive_scram_keys()
    assert len(derived) == 1, "and none for a password that SASLprep forbids (RFC 4013)"
    known, unknown, unusable = [
        [accounts.scram_keys(login) for _ in range(2)] for login in ("hanako", "nobody", "taro")
    ]
    for first, second in (known, unknown, unusable):
        assert first == second
        salt, stored_key, server_key, iterations = first
        assert (len(salt), len(stored_key), len(server_key), iterations) == (16, 32, 32, 4096)
    assert len(derived) == 1
