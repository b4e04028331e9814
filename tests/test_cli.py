"""The command line: what it prints is complete, a mistake is one sentence and exit code 2, a signal stops it cleanly."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import labkit
from labkit import cli
from labkit.cli import main
from labkit.wire import live


def run(*arguments: str | Path) -> Result:
    """A command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_every_command_explains_itself_with_an_example() -> None:
    for name in main.commands:
        result = run(name, "--help")
        assert result.exit_code == 0
        assert f"Example: labkit {name}" in result.output


def test_compare_prints_the_four_sessions_side_by_side() -> None:
    result = run("compare")
    assert result.exit_code == 0
    for words in (
        "Plaintext",
        "SMTP AUTH",
        "POP before SMTP",
        "SSL (implicit TLS)",
        "● PASS sakura",
        "TLS 1.3",
        "Packets",
    ):
        assert words in result.output


def test_compare_as_json_and_as_captures(tmp_path: Path) -> None:
    result = run("compare", "ssl", "starttls", "--engine", "tap", "--format", "json", "--pcap", tmp_path / "captures")
    assert result.exit_code == 0
    sessions = json.loads(result.output)["sessions"]
    assert [session["policy"] for session in sessions] == ["ssl", "starttls"]
    assert {session["engine"] for session in sessions} == {"tap"}
    assert [flow["tls"]["started"] for flow in sessions[1]["flows"]] == ["STARTTLS", "STLS"]
    assert {path.name for path in (tmp_path / "captures").iterdir()} == {"ssl.pcapng", "starttls.pcapng"}
    assert len(labkit.Capture.load(tmp_path / "captures" / "ssl.pcapng").flows) == 2


def test_compare_writes_a_page(tmp_path: Path) -> None:
    result = run("compare", "plaintext", "--format", "html", "--output", tmp_path / "page.html")
    assert (result.exit_code, result.output) == (0, "")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "<script" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "plain"), "There is no policy 'plain'. Choose one of: 'plaintext'"),
        (("compare", "plaintext", "--output", "missing/folder/page"), "cannot be written"),
        (("compare", "plaintext", "--engine", "packets"), "'packets' is not one of"),
        (("serve", "plain"), "There is no policy 'plain'"),
        (("serve", "plaintext", "--pcap", "missing/folder/session.pcapng"), "cannot be saved: No such file"),
        (("serve", "plaintext", "--pcap", f"{__file__}/session.pcapng"), "cannot be saved: Not a directory"),
        (("serve", "plaintext", "--pcap", f"{'x' * 250}.pcapng"), "cannot be saved: File name too long"),
        (("serve", "plaintext", "--pcap", "session.txt"), "must end in .pcap or .pcapng"),
        (("serve", "plaintext", "--smtp-port", "70000"), "70000 is not in the range"),
        (("read", "missing.pcap"), "cannot be read"),
        (("read", "x", "--decode-as", "smtp"), "is not PORT=smtp"),
        (("unheard-of",), "No such command"),
    ],
)
def test_a_mistake_is_said_and_exits_with_2(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_an_engine_that_is_not_permitted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "available", lambda: "This process may not capture packets.")
    result = run("compare", "--engine", "live")
    assert result.exit_code == 2
    assert 'may not capture packets. Take the engine "tap"' in result.output


def test_doctor_finds_this_machine_fit() -> None:
    report = json.loads(run("doctor", "--format", "json").output)
    assert report["ok"]
    assert {"name", "ok", "needed", "detail"} == set(report["checks"][0])
    assert {check["name"] for check in report["checks"]} >= {"Python", "scapy", "TLS", "live capture", "fonts"}
    assert run("doctor").exit_code == 0


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.doctor.NEEDED", ("aiosmtpd", "no-such-package"))
    result = run("doctor")
    assert result.exit_code == 1
    assert "MISSING   no-such-package" in result.output


@pytest.mark.skipif(os.name != "posix", reason="no socket files")
@pytest.mark.parametrize(("length", "transport"), [(53, ["--KernelManager.transport=ipc"]), (54, [])])
def test_kernels_are_met_at_socket_files_where_the_names_fit(
    length: int, transport: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/" + "r" * (length - 1))
    assert cli._at_socket_files() == transport
    name = f"{os.environ['JUPYTER_RUNTIME_DIR']}/kernel-{uuid.uuid4()}-ipc-1"
    assert (len(name) <= 103) == bool(transport)


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`labkit serve … --format json` in a process of its own, and what its first line tells."""
    command = [sys.executable, "-m", "labkit", "serve", *map(str, arguments), "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
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
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its) as process:
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
        assert signal.SIGHUP not in cli._stopping()
    finally:
        signal.signal(signal.SIGHUP, ignored)
    assert signal.SIGHUP in cli._stopping()


@pytest.mark.parametrize("stop", STOPS)
def test_serve_gives_other_programs_the_authority_they_must_trust(stop: signal.Signals) -> None:
    with serving("ssl") as (process, told):
        assert Path(told["ca"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
        process.send_signal(stop)
        process.communicate(timeout=20)
    assert not Path(told["ca"]).exists()


def test_serve_says_when_a_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run("serve", "plaintext", "--pop3-port", str(other.getsockname()[1]))
    assert result.exit_code == 2
    assert "taken by another program" in result.output
