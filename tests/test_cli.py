"""The command line: what it prints is complete, a mistake is one sentence and exit code 2, a signal stops it cleanly."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import labkit
from labkit import cli
from labkit.cli import main
from labkit.wire import live
from labkit.wire.loopback import RESERVE

# Without PYTHONUNBUFFERED: under it, Python has nothing left to write when it ends, and does not meet a closed pipe.
AN_ORDINARY_USERS = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


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


def test_policies_are_known_in_any_case() -> None:
    sessions = json.loads(run("compare", "SSL", "Pop-Before-SMTP", "--format", "json").output)["sessions"]
    assert [session["policy"] for session in sessions] == ["ssl", "pop-before-smtp"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "taken by another" in run("serve", "SSL", "--smtp-port", str(other.getsockname()[1])).output


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
        (("compare", "PLAIN"), "There is no policy 'plain'"),
        (("lab", "--porrt", "8899"), "JupyterLab has no option --porrt. Is --port meant?"),
        (("lab", "--no-browser", "--qqq=1"), "JupyterLab has no option --qqq=1: `labkit lab --help-all`"),
        (("probe", "hanako@mail.example"), "is a mail address, and does not tell which servers its provider has"),
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


@pytest.mark.parametrize(
    "option",
    ["--no-browser", "--port=8899", "--ip", "-y", "--debug", "--ServerApp.token=x", "--help-all", "build", "8899"],
)
def test_options_that_jupyterlab_has_are_passed_on(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyterlab.labapp import LabApp

    passed: list[list[str]] = []
    monkeypatch.setattr(LabApp, "launch_instance", passed.append)
    assert run("lab", option).exit_code == 0
    assert passed[0][-1] == option


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
    monkeypatch.setattr(cli, "FOLLOWED", cli.Limit(200, 1 << 20))
    monkeypatch.setenv("LABKIT_CAPTURE", "tap")
    kept = 0
    with labkit.Provider("plaintext") as provider:
        follow = cli._Follower(provider, "text")

        def look() -> None:
            nonlocal kept
            follow.print_new()
            kept = max(kept, len(follow._capture.frames))

        session(provider, look)
        follow.stop()
    printed = capsys.readouterr()
    return printed.out.splitlines(), printed.err, kept


def test_serve_begins_anew_between_connections(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def many(provider: labkit.Provider, look: Callable[[], None]) -> None:
        for _ in range(30):
            with smtplib.SMTP(provider.host, provider.smtp_port) as smtp:
                smtp.noop()
            while provider._network.call(lambda: len(provider._network._taps.live)):
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
    monkeypatch.setattr(cli, "SHOWN", 1 << 10)

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
    monkeypatch.setattr(cli, "SAVED", cli.Limit(20, 1 << 20))
    monkeypatch.setenv("LABKIT_CAPTURE", "tap")
    path = tmp_path / "session.pcap"
    with labkit.Provider("plaintext") as provider, cli._Saved(provider, path) as saved:
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
