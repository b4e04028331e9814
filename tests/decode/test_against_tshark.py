"""labkit read beside tshark, field by field, on captures of others and on captures of the five policies.

Where the two differ, the table says how, and which RFC says who is right. A difference that the table does not have fails,
and so does a row that is no difference any more.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from labkit.mail.sample import sample_message
from labkit.provider import Provider
from tests.decode import tshark

POLICIES = ("plaintext", "smtp-auth", "pop-before-smtp", "starttls", "ssl")
UNDER_TLS = ("starttls", "ssl")

# Captures on ports of their own: what tshark has to be told, because labkit looks at the content.
DECODE_AS = {
    "illustrated-tls13_capture.pcap": ["-d", "tcp.port==8400,tls"],
    "sv_smtp-tls-protodetect.pcap": ["-d", "tcp.port==1-65535,tls"],
    "zeek_hrr.pcap": ["-d", "tcp.port==1-65535,tls"],
}
KEYLOGS = {
    "illustrated-tls13_capture.pcap": "illustrated-tls13_keylog.txt",
    "zeek_tls12-decryption.pcap": "zeek_tls12-decryption.keys.txt",
}

CHALLENGE = (
    "RFC 5034 section 4: labkit. A plus is a status too, and the line after it is a response in base64, no command."
)
NO_MESSAGE = (
    "RFC 5321 section 4.3.2: labkit. After 503 no message follows DATA, so the next lines are commands, "
    "and this server answers each of them."
)
IN_THE_CLEAR = (
    "RFC 5321 section 3.1: labkit. The server greets in the clear, and the client speaks TLS to it; "
    "tshark takes all of port 465 for TLS."
)

# (capture, what): only ours, only tshark's (4.0), and who is right.
DIFFERENCES: Mapping[tuple[str, str], tuple[list[str], list[str], str]] = {
    ("sv_pop3-auth-01.pcap", "pop3 commands"): (
        [],
        ["0 DXNLCJ1QB2UUC3BLZWRIB2F0AWF1DGG9QMVHCMVYIEFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUEBAQ=="],
        CHALLENGE,
    ),
    ("sv_pop3-auth-01.pcap", "pop3 indicators"): (["0 +"], [], CHALLENGE),
    ("zeek_pop3.pcap", "pop3 commands"): (
        [],
        [
            "3 AGRPZ2L0YWXPBNZLC3RPZ2F0B3JABMV0D29YA3NPBXMUY29TAG5HCGLLCG==",
            "5 AGRPZ2L0YWXPBNZLC3RPZ2F0B3JABMV0D29YA3NPBXMUY29TAG5HCGLLCJEYMW==",
            "6 AGRPZ2L0YWXPBNZLC3RPZ2F0B3JABMV0D29YA3NPBXMUY29TAG5HCGLLCJEYMW==",
        ],
        CHALLENGE,
    ),
    ("zeek_pop3.pcap", "pop3 indicators"): (["3 +", "5 +", "6 +"], [], CHALLENGE),
    ("sv_smtp-data-rejected.pcap", "smtp commands"): (
        [
            "0 RSET",
            "0 MAIL FROM: <uprootedx38@gateway2c.dhl.com>",
            "0 RCPT TO:<mirjam@abrakadabra.ch>",
            "0 DATA",
        ],
        [],
        NO_MESSAGE,
    ),
    ("zeek_smtp-mail-transactions-invalid.pcap", "smtp commands"): (
        ["0 HELLO, Alice (2)", "0 .", "0 HELLO, Alice (3)", "0 .", "0 HELLO, Alice (4)", "0 ."],
        [],
        NO_MESSAGE,
    ),
    ("sv_smtp-errors.pcap", "smtp commands"): (
        ["1 QUIT"],
        [],
        "RFC 5321 section 4.1.1.10: labkit. QUIT follows the terminator of the message.",
    ),
    ("sv_smtp-errors.pcap", "smtp codes"): (
        ["3 220", "3 400", "3 400", "3 402", "3 402", "3 402"],
        [],
        IN_THE_CLEAR,
    ),
    ("sv_smtp-tls-protodetect.pcap", "smtp codes"): (["0 220"], [], IN_THE_CLEAR),
    ("sv_smtp-long-command.pcap", "smtp commands"): (
        [],
        ["0 QUIT"],
        "RFC 4954 section 4: labkit. After 334 the line QUIT is a response in base64, and the server asks for a password.",
    ),
    ("zeek_smtp-bdat-pipeline-8bitmime.pcap", "smtp commands"): (
        [
            "0 MAIL From:<linux-kernel-owner@vger.kernel.org> BODY=8BITMIME SIZE=4333",
            "0 RCPT To:<trafficwatcher@foundit.scootmail.com>",
            "0 BDAT 4404 LAST",
            "0 MAIL From:<linux-kernel-owner@vger.kernel.org> BODY=8BITMIME SIZE=8546",
            "0 RCPT To:<trafficwatcher@foundit.scootmail.com>",
            "0 BDAT 8757 LAST",
        ],
        [],
        "RFC 2920 section 3.1: labkit. Commands may come together in one segment; RFC 3030 section 2: BDAT is one of them.",
    ),
}


def check(name: str, ours: tshark.Facts, theirs: tshark.Facts) -> None:
    """Each fact must be the same, or differ as the table says."""
    assert ours["flows"]
    for what in tshark.WHAT:
        only_ours, only_theirs, why = DIFFERENCES.get((name, what), ([], [], "no difference is known"))
        found = tshark.differences(ours[what], theirs[what])
        assert tuple(map(sorted, found)) == (sorted(only_ours), sorted(only_theirs)), f"{name}, {what}: {why}"


def test_every_difference_says_who_is_right() -> None:
    assert all(re.match(r"RFC \d+ section [\d.]+: (labkit|tshark)\. ", why) for _o, _t, why in DIFFERENCES.values())
    assert all(ours or theirs for ours, theirs, _why in DIFFERENCES.values())


def test_every_row_is_of_a_capture_that_is_there(shared_captures: Path) -> None:
    assert {name for name, _what in DIFFERENCES} <= {path.name for path in shared_captures.iterdir()}


CAPTURES = [
    "illustrated-tls13_capture.pcap",
    "sv_bug-3616-smtp.pcap",
    "sv_pop3-auth-01.pcap",
    "sv_pop3.pcap",
    "sv_smtp-data-rejected.pcap",
    "sv_smtp-errors.pcap",
    "sv_smtp-interactive.pcap",
    "sv_smtp-long-command.pcap",
    "sv_smtp-tls-protodetect.pcap",
    "zeek_hrr.pcap",
    "zeek_pop3-unknown-commands.pcap",
    "zeek_pop3.pcap",
    "zeek_rfc3030-bdat-example1.pcap",
    "zeek_smtp-attachment-msg.pcap",
    "zeek_smtp-bdat-pipeline-8bitmime.pcap",
    "zeek_smtp-mail-transactions-invalid.pcap",
    "zeek_smtp-one-side-only.pcap",
    "zeek_smtp-starttls.pcap",
    "zeek_smtp.pcap",
    "zeek_tls12-decryption.pcap",
]


def test_no_capture_is_forgotten(shared_captures: Path) -> None:
    assert [path.name for path in sorted(shared_captures.glob("*.pcap*"))] == CAPTURES


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_of_others(shared_captures: Path, name: str) -> None:
    path = shared_captures / name
    keylog = shared_captures / KEYLOGS[name] if name in KEYLOGS else None
    options = [*DECODE_AS.get(name, []), *(["-o", f"tls.keylog_file:{keylog}"] if keylog else [])]
    check(name, tshark.our_facts(path, keylog), tshark.their_facts(path, options))


# --- the five policies -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one exchange under each policy: .pcap without keys, .pcapng with them."""
    folder = tmp_path_factory.mktemp("policies")
    for policy in POLICIES:
        with (
            Provider(policy, repeatable=True, keylog=policy in UNDER_TLS) as provider,
            provider.capture("tap") as capture,
        ):
            provider.client("hanako").send(sample_message(provider.accounts["hanako"], provider.accounts["taro"]))
            provider.client("taro").receive()
        for suffix in ("pcap", "pcapng"):
            capture.save(folder / f"{policy}.{suffix}")
    return folder


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
@pytest.mark.parametrize("policy", POLICIES)
def test_captures_of_the_policies(saved: Path, policy: str, suffix: str) -> None:
    path = saved / f"{policy}.{suffix}"
    ours, theirs = tshark.our_facts(path), tshark.their_facts(path)
    check(path.name, ours, theirs)
    opened = policy not in UNDER_TLS or suffix == "pcapng"
    assert ("0 DATA" in ours["smtp commands"] or "1 DATA" in ours["smtp commands"]) is opened
    assert any(line.split()[1] == "RETR" for line in ours["pop3 commands"]) is opened
    assert bool(ours["tls"]) is (policy in UNDER_TLS)
    assert bool(ours["certificates"]) is (policy in UNDER_TLS and suffix == "pcapng")  # TLS 1.3 hides it


# tshark notes every orderly close, and warns that its own preference not to undo AUTH's base64 is set.
EXPECTED = {
    "This frame initiates the connection closing",
    "This frame undergoes the connection closing",
    "base64 decode failed or is not enabled (check SMTP preferences)",
}
NOTE = 0x400000  # the severities above chats


@pytest.mark.parametrize("policy", POLICIES)
def test_saved_captures_open_without_a_complaint(saved: Path, policy: str) -> None:
    for suffix in ("pcap", "pcapng"):
        path = saved / f"{policy}.{suffix}"
        filter_ = f"_ws.expert.severity >= {NOTE}"
        found = tshark.rows(path, filter_, "_ws.expert.severity", "_ws.expert.message")
        notes = [
            message
            for severities, messages in found
            for severity, message in zip(severities, messages, strict=True)
            if int(severity, 0) >= NOTE
        ]
        assert set(notes) <= EXPECTED
        assert len(notes) >= 2


PROTOCOLS = {
    ("starttls", "pcap"): {"SMTP", "POP", "TLSv1.3"},
    ("ssl", "pcap"): {"TLSv1.3"},
    ("starttls", "pcapng"): {"SMTP", "POP", "SMTP/IMF", "TLSv1.3"},
    ("ssl", "pcapng"): {"SMTP", "POP", "SMTP/IMF", "TLSv1.3"},
}


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
@pytest.mark.parametrize("policy", POLICIES)
def test_tshark_dissects_at_once_because_ports_are_standard(saved: Path, policy: str, suffix: str) -> None:
    found = tshark.rows(saved / f"{policy}.{suffix}", "tcp", "_ws.col.Protocol")
    expected = PROTOCOLS.get((policy, suffix), {"SMTP", "POP", "SMTP/IMF"})
    assert {row[0][0] for row in found} - {"TCP", "TLSv1"} == expected
