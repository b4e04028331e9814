"""The command line: what it prints is complete, a mistake is one sentence and exit code 2, a signal stops it cleanly."""

import json
import os
import socket
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import labkit
from labkit.cli import lab, main
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
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _name: ["aiosmtpd>=1", "no-such-package<2", 'x; extra == "t"']
    )
    result = run("doctor")
    assert result.exit_code == 1
    assert "MISSING   no-such-package" in result.output


@pytest.mark.skipif(os.name != "posix", reason="no socket files")
@pytest.mark.parametrize(("length", "transport"), [(53, ["--KernelManager.transport=ipc"]), (54, [])])
def test_kernels_are_met_at_socket_files_where_the_names_fit(
    length: int, transport: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/" + "r" * (length - 1))
    assert lab.at_socket_files() == transport
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
