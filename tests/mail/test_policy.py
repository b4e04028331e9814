"""Policies: the five presets say what the article's four situations and today's submission port say."""

from dataclasses import replace
from datetime import timedelta

import pytest

from labkit.errors import UnknownPolicy
from labkit.mail.policy import MECHANISMS, POLICIES, LoginFormat, Policy, Security, resolve


def test_what_each_preset_demands() -> None:
    facts = {
        name: (policy.security, policy.auth_required, bool(policy.mechanisms), policy.pop_window)
        for name, policy in POLICIES.items()
    }
    assert facts == {
        "plaintext": (Security.NONE, False, False, None),
        "smtp-auth": (Security.NONE, True, True, None),
        "pop-before-smtp": (Security.NONE, False, False, timedelta(minutes=30)),
        "starttls": (Security.STARTTLS, True, True, None),
        "ssl": (Security.SSL, True, True, None),
    }


def test_resolve_takes_a_name_or_a_policy_of_ones_own() -> None:
    own = replace(POLICIES["ssl"], name="mine", mechanisms=("PLAIN",), login_format=LoginFormat.ADDRESS)
    assert resolve("ssl") is POLICIES["ssl"]
    assert resolve(own) is own
    assert set(own.mechanisms) < set(MECHANISMS)


@pytest.mark.parametrize("name", ["", "tls", "SSL"])
def test_an_unknown_name_is_answered_with_the_names_there_are(name: str) -> None:
    with pytest.raises(UnknownPolicy) as refused:
        resolve(name)
    assert repr(name) in str(refused.value)
    assert all(known in str(refused.value) for known in POLICIES)


def test_a_policy_cannot_be_changed_under_a_running_server() -> None:
    with pytest.raises(AttributeError):
        POLICIES["ssl"].auth_required = False  # type: ignore[misc]
    with pytest.raises(TypeError):
        POLICIES["mine"] = Policy("mine", "Mine")  # type: ignore[index]
