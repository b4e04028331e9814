"""The comparison: the same exchange under four policies, the same under both engines, and what it says is on the wire."""

import json
import socket
from pathlib import Path

import pytest

import labkit
from labkit.decode.exposure import Verdict
from labkit.decode.protocol import Service
from labkit.errors import BadKeyLog, EngineUnavailable, UnknownPolicy
from labkit.exchanges import FOUR, compare, exchange
from labkit.mail.policy import POLICIES
from labkit.wire import live
from labkit.wire.flows import Side

READABLE, ENCODED, HIDDEN, SIZE = Verdict.READABLE, Verdict.ENCODED, Verdict.HIDDEN, Verdict.SIZE_ONLY


@pytest.fixture(scope="module")
def comparison() -> labkit.Comparison:
    return compare(engine="tap")


def test_without_a_name_it_takes_the_four_of_the_article(comparison: labkit.Comparison) -> None:
    assert tuple(comparison.captures) == FOUR


def test_what_each_policy_gives_away(comparison: labkit.Comparison) -> None:
    verdicts = {
        name: {finding.fact.value: finding.verdict for finding in capture.findings.values()}
        for name, capture in comparison.captures.items()
    }
    for name in ("plaintext", "smtp-auth", "pop-before-smtp"):
        assert verdicts[name].pop("attachment") is ENCODED
        assert set(verdicts[name].values()) == {READABLE}
    ssl = verdicts["ssl"]
    assert ssl.pop("message size") is SIZE
    assert ssl.pop("server name") is READABLE
    assert set(ssl.values()) == {HIDDEN}


def test_sending_with_auth_is_encoded_and_reading_is_readable(comparison: labkit.Comparison) -> None:
    session = comparison.exchanges[1].session
    sending, reading = session.part(Service.SENDING), session.part(Service.READING)
    assert (sending["password"].verdict, sending["password"].value) == (ENCODED, "sakura")
    assert (reading["password"].verdict, reading["password"].value) == (READABLE, "fuji3776")


def test_a_finding_points_at_its_bytes(comparison: labkit.Comparison) -> None:
    capture = comparison.captures["plaintext"]
    finding = capture.exposure["password"]
    stream = capture.flows[finding.flow - 1].flow.stream(finding.side)
    assert stream.data[finding.start : finding.end] == b"fuji3776"
    assert b"PASS fuji3776" in bytes(capture.packets[finding.packet - 1])


def test_nothing_of_the_secret_crosses_the_wire_under_ssl(comparison: labkit.Comparison) -> None:
    frames = b"".join(frame.data for frame in comparison.captures["ssl"].frames)
    for secret in (b"sakura", b"fuji3776", b"Lunch on Friday", b"hanako", b"map.png", "正午".encode()):
        assert secret not in frames


@pytest.mark.skipif(bool(live.available()), reason=live.available() or "live capture is possible")
@pytest.mark.parametrize("policy", POLICIES)
def test_both_engines_record_the_same(policy: str) -> None:
    tap, kernel = (exchange(policy, engine=engine).capture for engine in ("tap", "live"))
    for ours, theirs in zip(tap.flows, kernel.flows, strict=True):
        sizes = [[(b.side, b.end - b.start) for b in flow.flow.bursts] for flow in (ours, theirs)]
        assert sizes[0] == sizes[1]
        if ours.tls is None:
            assert ours.client_stream.data == theirs.client_stream.data
            assert ours.server_stream.data == theirs.server_stream.data
    assert repr(tap) == repr(kernel)
    assert repr(tap.exposure) == repr(kernel.exposure)


def test_its_faces_are_the_same_in_every_run(comparison: labkit.Comparison) -> None:
    again = compare(engine="tap")
    assert repr(comparison) == repr(again)
    assert comparison.html() == again.html()
    assert comparison.ladder().html() == again.ladder().html()
    assert comparison.strip().html() == again.strip().html()


def test_the_engine_is_told_in_metadata_alone(comparison: labkit.Comparison) -> None:
    data, metadata = comparison._repr_mimebundle_()
    assert metadata == {"labkit": {"engine": "tap"}}
    assert set(data) == {"text/plain", "text/html"}


def test_the_report_is_json_and_as_documented(comparison: labkit.Comparison) -> None:
    sessions = json.loads(json.dumps(comparison.report()))["sessions"]
    assert [session["policy"] for session in sessions] == list(FOUR)
    for session in sessions:
        assert set(session) == {"policy", "engine", "packets", "notes", "flows", "exposure", "cost"}
        assert set(session["cost"]) == {"connections", "packets", "bytes", "round_trips"}
        for finding in session["exposure"].values():
            assert set(finding) == {"verdict", "value", "packet", "bytes"}
    smtp = sessions[0]["flows"][0]
    assert (smtp["protocol"], smtp["server"], smtp["tls"]) == ("smtp", "mail.example:25", None)
    assert [command["verb"] for command in smtp["commands"]] == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert [reply["code"] for reply in smtp["replies"]] == ["220", "250", "250", "250", "354", "250", "221"]
    smtps = sessions[3]["flows"][0]
    assert smtps["tls"]["started"] == "implicit"
    assert smtps["tls"]["server_name"] == "mail.example"
    assert smtps["commands"] == []


def test_saved_sessions_read_back_the_same(comparison: labkit.Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path / "new")
    for name, capture in comparison.captures.items():
        loaded = labkit.Capture.load(tmp_path / "new" / f"{name}.pcapng")
        assert repr(loaded) == repr(capture)
        assert repr(loaded.exposure) == repr(capture.exposure)


def test_a_capture_is_unlocked_by_the_keys_of_its_provider() -> None:
    with labkit.Provider("ssl", repeatable=True, keylog=True) as provider, provider.capture() as capture:
        provider.client("hanako").send(labkit.sample_message())
    assert capture.flows[0].opened is None
    opened = capture.unlock().flows[0].opened
    assert opened is not None
    assert [command.verb for command in opened.commands] == ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]
    assert capture.unlock().exposure["password"].verdict is HIDDEN, "exposure is an eavesdropper's, keys or not"


@pytest.mark.parametrize("policy", ["plaintext", "starttls", "ssl"])
def test_without_a_handshake_there_is_nothing_to_unlock(policy: str) -> None:
    with labkit.Provider(policy, repeatable=True, keylog=True) as provider, provider.capture() as capture:
        socket.create_connection((provider.host, provider.smtp_port)).close()
    for unlocked in (capture.unlock(), capture.unlock().unlock()):
        assert [flow.opened for flow in unlocked.flows] == [None]


def test_a_capture_without_keys_says_so() -> None:
    with labkit.Provider("ssl", repeatable=True) as provider, provider.capture() as capture:
        pass
    with pytest.raises(BadKeyLog, match="keylog=True"):
        capture.unlock()


def test_every_byte_of_a_session_is_explained(comparison: labkit.Comparison) -> None:
    from labkit.decode.spans import untiled

    for capture in comparison.captures.values():
        for flow in capture.flows:
            for side in Side:
                data = flow.flow.stream(side).data
                assert untiled(flow.spans(side), 0, len(data)) == ""


@pytest.mark.parametrize("mistake", [{"policies": ("plaintext", "tls")}, {"policies": (), "engine": "pcap"}])
def test_a_mistake_is_said_before_anything_runs(mistake: dict[str, object]) -> None:
    policies = mistake["policies"]
    with pytest.raises((UnknownPolicy, EngineUnavailable), match=r"Choose|choose"):
        compare(*policies, engine=str(mistake.get("engine", "auto")))  # type: ignore[misc]


def test_exchange_stays_a_function_after_compare_was_used() -> None:
    """The import system gives the module's name to the package, where the function's public name is the same."""
    assert callable(labkit.compare)
    assert labkit.exchange("plaintext", engine="tap").policy is POLICIES["plaintext"]
