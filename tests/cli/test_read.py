"""`labkit read` on captures of others and on what is none: complete, harmless to a terminal, one sentence when refused."""

import gzip
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import labkit
from labkit.cli import main
from labkit.wire import pcap, pcap_writer
from tests.wire.building import CLIENT, SERVER, handshake, segment

# What would act on a terminal: ESC, C0, DEL, C1 as an octet and in UTF-8, a bidirectional override.
HOSTILE = b"EHLO \x1b[2J\x1b]0;title\x07\x9b31m\x7f\xc2\x9b1m\xe2\x80\xae\r\n"
ACTING = {"Cc", "Cf", "Zl", "Zp"}


def read(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["read", *map(str, arguments)])


def controls(text: str) -> set[str]:
    """Characters that a terminal may act on instead of showing them, line feeds aside."""
    return {character for character in text if unicodedata.category(character) in ACTING} - {"\n"}


def session(path: Path, said: bytes = b"EHLO client.example\r\n") -> Path:
    """A capture of a greeting and a command."""
    greeting = b"220 mail.example ESMTP\r\n"
    frames = [
        *handshake(),
        segment(SERVER, CLIENT, 5001, greeting),
        segment(CLIENT, SERVER, 1001, said),
        segment(SERVER, CLIENT, 5001 + len(greeting), b"250 mail.example\r\n"),
    ]
    pcap_writer.write(path, frames)
    return path


@pytest.mark.parametrize("style", ["text", "json", "html"])
def test_every_public_capture_is_read(shared_captures: Path, style: str) -> None:
    for path in sorted(shared_captures.glob("*.pcap")):
        result = read(path, "--format", style)
        assert result.exit_code == 0, path.name
        assert controls(result.output) == set(), path.name
        assert len(result.output) > 100, path.name
        if style == "json":
            assert len(json.loads(result.output)["flows"]) == len(labkit.Capture.load(path).flows)


@pytest.mark.parametrize("style", ["text", "json", "html"])
def test_nothing_from_the_wire_acts_on_the_terminal(tmp_path: Path, style: str) -> None:
    result = read(session(tmp_path / "hostile.pcap", HOSTILE), "--format", style)
    assert result.exit_code == 0
    assert "title" in result.output
    assert controls(result.output) == set()


# --- what is refused -------------------------------------------------------------------------------------------------


def no_capture(path: Path) -> Path:
    path.write_bytes(b"Dear taro,\n")
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def foreign_link(path: Path) -> Path:
    octets = bytearray(session(path).read_bytes())
    octets[20:24] = (147).to_bytes(4, "little")  # LINKTYPE_USER0
    path.write_bytes(octets)
    return path


def missing(path: Path) -> Path:
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def damaged_at_once(path: Path) -> Path:
    """A pcapng whose first packet's block has an impossible length."""
    octets = bytearray(session(path).read_bytes())
    at = octets.index((6).to_bytes(4, "little") + b"\x58\0\0\0")
    octets[at + 4] += 1
    path.write_bytes(octets)
    return path


def refused(result: Result) -> str:
    """The one sentence; no traceback, nothing on the standard output, exit code 2."""
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("labkit: ")
    assert sentence.endswith(".")
    assert controls(sentence) == set()
    return sentence


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (no_capture, "mail.pcap", "is not a capture: offset 0 should hold the magic number"),
        (empty, "empty.pcap", "the file is empty"),
        (foreign_link, "foreign.pcap", "on a link of type 147, which is not read"),
        (damaged_at_once, "damaged.pcapng", "should hold the length of a block"),
        (missing, "missing.pcap", "No such file"),
        (folder, "folder", "directory"),
    ],
)
def test_what_is_no_capture_is_refused_in_a_sentence(
    tmp_path: Path, make: Callable[[Path], Path], name: str, words: str
) -> None:
    path = make(tmp_path / name)
    sentence = refused(read(path))
    assert words in sentence
    assert str(path) in sentence


def test_a_decompression_bomb_is_refused_with_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "LARGEST_UNPACKED", 4 << 20)
    path = tmp_path / "bomb.pcap.gz"
    path.write_bytes(gzip.compress(session(tmp_path / "small.pcap").read_bytes() + bytes(64 << 20)))
    assert "more than 4 MiB" in refused(read(path))


def test_a_key_log_that_is_none_is_refused(tmp_path: Path) -> None:
    capture, keys = session(tmp_path / "session.pcap"), tmp_path / "keys.txt"
    assert "cannot be read" in refused(read(capture, "--keylog", keys))
    keys.write_bytes(bytes(range(256)))
    assert "holds no key that can be used" in refused(read(capture, "--keylog", keys))
    assert "cannot be read" in refused(read(capture, "--keylog", tmp_path))


# --- what is read as far as it goes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["# TLS secrets log file, generated by OpenSSL / Python\n", "no key at all\n"])
def test_keys_that_open_nothing_do_not_keep_a_capture_from_being_read(tmp_path: Path, keys: str) -> None:
    frames = labkit.Capture.load(session(tmp_path / "plain.pcap")).frames
    pcap_writer.write(tmp_path / "keys.pcapng", frames, keylog=keys)
    assert labkit.Capture.load(tmp_path / "keys.pcapng").keylog == keys
    result = read(tmp_path / "keys.pcapng", "--format", "json")
    assert result.exit_code == 0
    (flow,) = json.loads(result.output)["flows"]
    assert [command["verb"] for command in flow["commands"]] == ["EHLO"]


@pytest.mark.parametrize("style", ["text", "json", "html"])
def test_a_capture_cut_in_mid_packet_is_read_as_far_as_it_goes(tmp_path: Path, style: str) -> None:
    path = session(tmp_path / "cut.pcap")
    path.write_bytes(path.read_bytes()[:-3])
    result = read(path, "--format", style)
    assert result.exit_code == 0
    assert "in the middle of what begins at offset" in result.output
    assert "EHLO" in result.output
    assert "250 mail.example" not in result.output


def test_a_damaged_block_after_packets_ends_the_reading_with_a_note(tmp_path: Path) -> None:
    path = session(tmp_path / "damaged.pcapng")
    octets = bytearray(path.read_bytes())
    octets[-4] ^= 1  # the length at the end of the last block
    path.write_bytes(octets)
    result = read(path)
    assert result.exit_code == 0
    assert "should hold the block's length again" in result.output
    assert "EHLO" in result.output


def test_a_key_log_that_fits_nothing_says_so(shared_captures: Path) -> None:
    capture, keys = shared_captures / "zeek_hrr.pcap", shared_captures / "illustrated-tls13_keylog.txt"
    reason = "The key log has no SERVER_TRAFFIC_SECRET_0 for this session."
    assert reason in read("--keylog", keys, capture).output
    assert reason in read("--keylog", keys, "--format", "html", capture).output
    assert reason in " ".join(json.loads(read("--keylog", keys, "--format", "json", capture).output)["notes"])
    assert reason not in read(capture).output


def test_the_reasons_why_keys_open_nothing_are_few(shared_captures: Path) -> None:
    keys = shared_captures / "illustrated-tls13_keylog.txt"
    for path in sorted(shared_captures.glob("*.pcap")):
        capture = labkit.Capture.load(path)
        assert len(capture.unlock(keys).notes) <= len(capture.notes) + 4, path.name


def test_what_was_opened_and_is_no_mail_is_told(shared_captures: Path) -> None:
    keys = shared_captures / "illustrated-tls13_keylog.txt"
    result = read("--keylog", keys, shared_captures / "illustrated-tls13_capture.pcap")
    assert "inside TLS: only the two ends can read this\nC: ● unknown protocol: 4 octets" in result.output


def test_the_encrypted_handshake_is_explained(shared_captures: Path) -> None:
    keys = shared_captures / "illustrated-tls13_keylog.txt"
    page = read("--keylog", keys, "--format", "html", shared_captures / "illustrated-tls13_capture.pcap").output
    hello, inside = (
        page.index("TLS_AES_128_GCM_SHA256"),
        page.index("the handshake inside TLS: only the two ends can read this"),
    )
    assert hello < inside < page.index("EncryptedExtensions", inside) < page.index("CertificateVerify", inside)
