"""labkit serve: it tells how to connect, shows what is said, stops cleanly, and keeps a bounded part of it."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.cli import follow, serve
from labkit.wire.loopback import RESERVE
from tests.cli.test_commands import run

# Without PYTHONUNBUFFERED: under it, Python has nothing left to write when it ends, and does not meet a closed pipe.
AN_ORDINARY_USERS = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`labkit serve … --format json` in a process of its own, and what its first line tells."""
    command = [sys.executable, "-m", "labkit", "serve", *map(str, arguments), "--format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=AN_ORDINARY_USERS
    ) as process:
        assert process.stdout
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


STOPS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@pytest.mark.parametrize("stop", STOPS)
def test_serve_tells_how_to_connect_shows_the_dialogue_and_stops_cleanly(stop: signal.Signals, tmp_path: Path) -> None:
    saved, mail = tmp_path / "session.pcapng", tmp_path / "mail"
    with serving("smtp-auth", "--pcap", saved, "--maildir", mail) as (process, told):
        assert (told["host"], told["policy"], told["ca"]) == ("127.0.0.1", "smtp-auth", None)
        hanako, taro = told["accounts"]
        with smtplib.SMTP(told["host"], told["smtp_port"], local_hostname="client.example") as smtp:
            smtp.login(hanako["login"], hanako["password"])
            smtp.sendmail(hanako["address"], taro["address"], b"Subject: hi\r\n\r\nhi\r\n")
        process.send_signal(stop)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    lines = [json.loads(line) for line in rest.splitlines()]
    assert next(line["text"] for line in lines if line["side"] == "client") == "ehlo client.example"
    assert "Subject: hi" in [line["text"] for line in lines]
    assert lines[-1]["text"].startswith("221 ")
    verbs = [command.verb for command in labkit.Capture.load(saved).flows[0].commands]
    assert verbs == ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]
    assert len(list((mail / "taro" / "new").iterdir())) == 1


def test_serve_saves_the_session_when_nobody_reads_its_dialogue(tmp_path: Path) -> None:
    saved = tmp_path / "session.pcapng"
    with serving("plaintext", "--pcap", saved) as (process, told):
        assert process.stdout
        process.stdout.close()
        with smtplib.SMTP(told["host"], told["smtp_port"]) as smtp:
            smtp.noop()
        assert process.wait(timeout=20) == 0
        assert process.stderr
        assert process.stderr.read() == (
            f"Nobody reads the dialogue any more: the server stops, and the session goes into {saved}.\n"
        )
    assert labkit.Capture.load(saved).flows[0].commands[0].verb == "NOOP"


@pytest.mark.skipif(os.name != "posix", reason="no terminals")
def test_serve_saves_the_session_when_its_terminal_is_closed(tmp_path: Path) -> None:
    import pty

    saved, (ours, its) = tmp_path / "session.pcapng", pty.openpty()
    command = [sys.executable, "-m", "labkit", "serve", "plaintext", "--format", "json", "--pcap", str(saved)]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=AN_ORDINARY_USERS) as process:
        try:
            os.close(its)
            with os.fdopen(ours, "rb") as terminal:
                told = json.loads(terminal.readline())
            with smtplib.SMTP(told["host"], told["smtp_port"]) as smtp:
                smtp.noop()
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    assert labkit.Capture.load(saved).flows[0].commands[0].verb == "NOOP"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no hangups")
def test_serve_goes_on_without_a_terminal_where_nohup_said_so() -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in serve.stopping_signals()
    finally:
        signal.signal(signal.SIGHUP, ignored)
    assert signal.SIGHUP in serve.stopping_signals()


@pytest.mark.parametrize("stop", STOPS)
def test_serve_gives_other_programs_the_authority_they_must_trust(stop: signal.Signals) -> None:
    with serving("ssl") as (process, told):
        assert Path(told["ca"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
        process.send_signal(stop)
        process.communicate(timeout=20)
    assert not Path(told["ca"]).exists()


@pytest.mark.skipif(os.name != "posix", reason="no limit of descriptors")
def test_serve_outlives_more_connections_than_it_has_descriptors_for() -> None:
    script = 'ulimit -n 220; exec "$@"'
    command = [sys.executable, "-m", "labkit", "serve", "plaintext", "--format", "json"]
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            told = json.loads(process.stdout.readline())
            address = told["host"], told["smtp_port"]
            with ExitStack() as idle:
                greeted = 0
                for client in [idle.enter_context(socket.create_connection(address, 10)) for _ in range(300)]:
                    with suppress(ConnectionResetError):
                        greeted += client.recv(3) == b"220"
            assert 220 - RESERVE <= greeted < 220
            for attempt in range(100):
                with suppress(OSError), smtplib.SMTP(*address) as smtp:
                    assert smtp.noop()[0] == 250
                    break
                assert attempt < 99
            process.send_signal(signal.SIGTERM)
            _lines, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, errors) == (
        0,
        "Too many connections are open: those that come now are closed at once.\n",
    )


def followed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, session: Callable[..., None]
) -> tuple[list[str], str, int]:
    """What is printed of a session, looked at after every step of it, and how many packets were kept at the most."""
    monkeypatch.setattr(follow, "FOLLOWED", follow.Limit(200, 1 << 20))
    monkeypatch.setenv("LABKIT_CAPTURE", "tap")
    kept = 0
    with labkit.Provider("plaintext") as provider:
        follower = follow.Follower(provider, "text")

        def look() -> None:
            nonlocal kept
            follower.print_new()
            kept = max(kept, len(follower._capture.frames))

        session(provider, look)
        follower.stop()
    printed = capsys.readouterr()
    return printed.out.splitlines(), printed.err, kept


def test_serve_begins_anew_between_connections(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def many(provider: labkit.Provider, look: Callable[[], None]) -> None:
        for _ in range(30):
            with smtplib.SMTP(provider.host, provider.smtp_port) as smtp:
                smtp.noop()
            while provider._network.call(lambda: len(provider._network.taps.live)):
                pass
            look()

    lines, errors, kept = followed(capsys, monkeypatch, many)
    assert [line for line in lines if line.endswith("noop")] == [f"{number:3} C: · noop" for number in range(1, 31)]
    assert errors == ""
    assert kept < 100


def test_serve_forgets_what_a_flood_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def flood(provider: labkit.Provider, look: Callable[[], None]) -> None:
        with smtplib.SMTP(provider.host, provider.smtp_port) as smtp:
            for _ in range(300):
                smtp.noop()
                look()
        with smtplib.SMTP(provider.host, provider.smtp_port) as smtp:
            smtp.verify("taro")

    lines, errors, kept = followed(capsys, monkeypatch, flood)
    assert 40 < len([line for line in lines if line.endswith("noop")]) < 60
    assert "  2 C: ● vrfy taro" in lines, "who comes afterwards is shown"
    assert set(errors.splitlines(True)) == {
        "Much has been said: what the connections that are open now go on to say is not shown.\n"
    }
    assert kept < 220


def test_serve_shows_the_beginning_of_one_who_says_much(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SHOWN", 1 << 10)

    def flood(provider: labkit.Provider, look: Callable[[], None]) -> None:
        with socket.create_connection((provider.host, provider.smtp_port)) as talk, talk.makefile("rb") as replies:
            replies.readline()
            for _ in range(3):
                talk.sendall(b"NOOP\r\n" * 1000)
                for _reply in range(1000):
                    replies.readline()
                look()

    lines, errors, _kept = followed(capsys, monkeypatch, flood)
    assert lines[0].startswith("  1 S: · 220 mail.example")
    assert 80 <= lines.count("  1 C: · NOOP") <= 86, "half of 1,024 octets, six each"
    assert errors == "Connection 1 says much: what comes after its first 1 KiB is not shown.\n"


def test_a_file_that_is_full_is_kept_and_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(follow, "SAVED", follow.Limit(20, 1 << 20))
    monkeypatch.setenv("LABKIT_CAPTURE", "tap")
    path = tmp_path / "session.pcap"
    with labkit.Provider("plaintext") as provider, follow.SavedSession(provider, path) as saved:
        for _ in range(5):
            with smtplib.SMTP(provider.host, provider.smtp_port) as smtp:
                smtp.noop()
            saved.limit()
    assert capsys.readouterr().err == f"{path} is full: what comes now is shown, but not saved.\n"
    assert 1 <= len(labkit.Capture.load(path).flows) < 5


def test_serve_says_when_a_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run("serve", "plaintext", "--pop3-port", str(other.getsockname()[1]))
    assert result.exit_code == 2
    assert "taken by another program" in result.output
