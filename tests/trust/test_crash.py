"""What was accepted is not lost, what is refused leaves nothing behind: stored whole or not at all, and never twice.

RFC 5321 section 6.1: with 250 the server takes the responsibility, and must not lose the message for a frivolous reason.
Faults are put in at every point: after each octet that a client sends, at each call into C that storing makes (that is where
the operating system is), and by killing the process there.
"""

import asyncio
import errno
import gc
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from labkit.mail.maildrop import Maildrop
from labkit.mail.sample import sample_message
from labkit.provider import Provider
from tests.mail.conftest import InMemory, a_service
from tests.trust.rig import BEGIN, POSIX, Client, a_provider, b64, taro, until

BOTH = (BEGIN[0], BEGIN[1], b"RCPT TO:<hanako@mail.example>\r\n", b"RCPT TO:<x@elsewhere.example>\r\n", BEGIN[2])
LOGIN = f"EHLO client.example\r\nAUTH PLAIN {b64('', 'hanako', 'correct horse')}\r\n".encode()


def nobody_is_connected(provider: Provider) -> bool:
    return provider._network.call(lambda: not provider._network.taps.live)


# The client goes


@pytest.mark.parametrize("vanish", [Client.vanish, Client.close], ids=["RST", "FIN"])
@pytest.mark.parametrize("policy", ["smtp-auth", "ssl"])
def test_a_client_that_vanishes_after_any_octet(policy: str, vanish: Callable[[Client], None]) -> None:
    """Each session's message says after how many octets its client went, so that each can be looked for afterwards."""
    with a_provider(policy) as provider:
        before = LOGIN + b"".join(BEGIN)
        complete = len(before) + len(b"0000\r\n.\r\n")
        ends = range(0, complete + 1, 1 if policy == "smtp-auth" else 3)
        for end in (*ends, complete):
            client = Client(provider, "smtp")
            client.send((before + b"%04d\r\n.\r\nQUIT\r\n" % end)[:end])
            vanish(client)
        until(lambda: nobody_is_connected(provider))
        stored = taro(provider)
    assert set(stored) <= {b"%04d\r\n" % complete}
    if policy == "smtp-auth" and vanish is Client.close:  # an orderly end: what was sent is read
        assert len(stored) == 2


def lost(session: InMemory) -> None:
    session.protocol.connection_lost(ConnectionResetError())


def cancelled(session: InMemory) -> None:
    for task in asyncio.all_tasks(session.loop):
        task.cancel()


@pytest.mark.parametrize("fault", [lost, cancelled])
@pytest.mark.parametrize("where", ["memory", "Maildir"])
def test_a_fault_at_every_await(where: str, fault: Callable[[InMemory], None], tmp_path: Path) -> None:
    """An await is where the loop may turn to something else: the connection is lost there, or the server is stopped.

    A delivery arrives in many pieces, and after each the loop takes one turn at a time.
    """
    content = b"one\r\n..two\r\nthree\r\n"
    wire = b"EHLO client.example\r\n" + b"".join(BOTH) + content + b".\r\nQUIT\r\n"
    pieces = [wire[at : at + 20] for at in range(0, len(wire), 20)]
    states: list[tuple[int, bool]] = []  # for each turn: how many copies there are, and whether 250 was said
    came = True
    while came:
        service = a_service(maildir=tmp_path / str(len(states)) if where == "Maildir" else None)
        with InMemory(service) as session:
            came = _interrupted(session, pieces, len(states), fault)
            session.rest()
            said = b"".join(session.transport.writes)
        held = [[message.content for message in service.maildrops[name].messages()] for name in ("hanako", "taro")]
        held.append([message.content for message in service.outgoing])
        assert held in ([[]] * 3, [[content.replace(b"..", b".")]] * 3), len(states)
        states.append((len(held[0]), b"250 2.0.0 " in said))
    assert len(states) == 6 * len(pieces) + 1
    assert states == sorted(states)  # not stored; stored; stored, and the client was told
    assert states[0] == (0, False)
    assert states[-1] == (1, True)
    assert not [stored for stored, told in states if told and not stored]


def _interrupted(session: InMemory, pieces: list[bytes], turns: int, fault: Callable[[InMemory], None]) -> bool:
    """Let the pieces arrive, and the fault come after so many turns of the loop; whether it did."""
    for piece in pieces:
        session.protocol.data_received(piece)
        for _turn in range(6):
            if not turns:
                fault(session)
                return True
            turns -= 1
            session.loop.call_soon(session.loop.stop)
            session.loop.run_forever()  # exactly one turn: whatever is ready, each to its next await
    return False


def test_after_250_it_is_there_whatever_happens_next() -> None:
    with a_provider() as provider:
        for number in range(50):
            client = Client(provider, "smtp")
            client.say("EHLO client.example")
            assert client.deliver(b"%d\r\n" % number).startswith("250 ")
            assert taro(provider)[-1] == b"%d\r\n" % number
            (client.vanish if number % 2 else client.close)()
        assert len(taro(provider)) == 50


# Storing goes wrong


class Faults:
    """Makes the n-th call into C within Maildrop.append fail, as a full or broken disk does, or kills the process there.

    It works in the network's thread, by a profile function that is set while a message is being appended.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.left = 0
        self.came = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        # Only calls that can fail without effect: giving back a lock or a file cannot.
        if event == "c_call" and argument.__name__ not in ("__exit__", "setprofile"):
            self.left -= 1
            if self.left == 0:
                self.came = True
                self.act()

    @contextmanager
    def within(self, kind: type[Maildrop]) -> Iterator[None]:
        """Faults in this kind of maildrop."""
        true = kind.append

        def append(maildrop: Maildrop, content: bytes) -> str:
            sys.setprofile(self)
            try:
                return true(maildrop, content)
            finally:
                sys.setprofile(None)

        # A collection in the middle of storing would run what other tests have left, and a fault there proves nothing.
        gc.disable()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(kind, "append", append)
                yield
        finally:
            gc.enable()


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken() -> None:
    raise RuntimeError("a fault that nobody foresaw")


@pytest.mark.parametrize("fault", [full, broken])
@pytest.mark.parametrize("where", ["memory", "Maildir"])
def test_storing_fails_at_any_step(where: str, fault: Callable[[], None], tmp_path: Path) -> None:
    """For both of two recipients and those elsewhere, or for none: and the client is told which."""
    faults = Faults(fault)
    with a_provider(maildir=tmp_path if where == "Maildir" else None) as provider:
        drops = [provider.maildrops[name] for name in ("hanako", "taro")]
        step, refusals, stored = 0, 0, 0
        with faults.within(type(drops[0])), Client(provider, "smtp") as client:
            client.say("EHLO client.example")
            faults.came = True
            while faults.came:
                step += 1
                faults.left, faults.came = step, False
                client.send(b"".join(BOTH) + b"%04d\r\n.\r\n" % step)
                reply = [client.reply() for _ in range(6)][-1]
                assert reply.startswith(("250 2.0.0 ", "452 4.3.1 ", "451 4.3.0 ")), step
                stored += reply.startswith("250")
                refusals += not reply.startswith("250")
                for contents in (
                    *([m.content for m in drop.messages()] for drop in drops),
                    [o.content for o in provider.outgoing],
                ):
                    assert len(contents) == stored
                    assert (b"%04d\r\n" % step in contents) is reply.startswith("250"), step
        assert client is not None
    assert refusals == step - 1 > 2
    assert stored == 1
    assert list(tmp_path.rglob("tmp/*")) == []


# The process goes

KILLED = """
import json, os, pathlib, signal, sys
from tests.trust.rig import BEGIN, Client, a_provider, taro
from tests.trust.test_crash import Faults
from labkit.mail.maildrop import MaildirMaildrop

def serve(folder, step, pipe):
    faults = Faults(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with a_provider(maildir=folder) as provider, faults.within(MaildirMaildrop):
        faults.left = step
        os.write(pipe, b"%d %d\\n" % (provider.smtp_port, provider.pop3_port))
        signal.pause()

class Elsewhere:
    host = "127.0.0.1"
    class policy:
        security = None
    def __init__(self, pipe):
        self.smtp_port, self.pop3_port = map(int, os.read(pipe, 100).split())

outcomes = []
step, died = 0, True
while died:
    step += 1
    folder = pathlib.Path(sys.argv[1]) / str(step)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        serve(folder, step, write)
    server = Elsewhere(read)
    os.close(read)
    os.close(write)
    with Client(server, "smtp") as client:
        client.say("EHLO client.example")
        client.say(*(command[:-2] for command in BEGIN))
        client.send(b"x" * 100_000 + b"\\r\\nend\\r\\n.\\r\\n")
        try:
            reply = client.reply()
        except ConnectionError:
            reply = ""
    died = reply == ""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with a_provider(maildir=folder) as provider:
        outcomes.append((reply[:3], [len(content) for content in taro(provider)]))
print(json.dumps(outcomes))
"""


def leaving_its_files_in(folder: Path) -> dict[str, str]:
    """The environment of a program that is killed: it cannot clean up."""
    return {**os.environ, "TMPDIR": str(folder)}


@POSIX
def test_a_provider_that_is_killed_at_any_step_of_storing(tmp_path: Path) -> None:
    """kill -9, then start again on the same Maildir: no torn message, and what got 250 is there once."""
    done = subprocess.run(
        # For a moment the system still counts a thread that was joined, and Python 3.12 warns of forking beside threads.
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=leaving_its_files_in(tmp_path),
    )
    assert done.stderr == ""
    outcomes = json.loads(done.stdout)
    whole = [len(b"x" * 100_000 + b"\r\nend\r\n")]
    *killed, (reply, survived) = outcomes
    assert (reply, survived) == ("250", whole)
    assert len(killed) > 10
    assert all(reply == "" and sizes in ([], whole) for reply, sizes in killed)
    assert [] in (sizes for _reply, sizes in killed)
    # Once it is stored it stays so: there is one step before which it is not there and after which it is.
    states = [len(sizes) for _reply, sizes in killed]
    assert states == sorted(states)


@POSIX
def test_a_provider_that_is_killed_at_any_moment_keeps_what_it_accepted(tmp_path: Path) -> None:
    """The same for a whole server under load, killed a few times while four clients send."""
    folder = tmp_path / "mail"
    accepted: set[bytes] = set()
    sent = 0
    script = (
        "import json, signal, sys; from tests.trust.rig import a_provider\n"
        "with a_provider(maildir=sys.argv[1]) as p: print(p.smtp_port, flush=True); signal.pause()"
    )
    for life in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, env=leaving_its_files_in(tmp_path)
        ) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            enough = threading.Semaphore(0)

            def send(number: int, life: int = life, port: int = port, enough: threading.Semaphore = enough) -> None:
                with _Remote(port).client() as client:
                    client.say("EHLO client.example")
                    for count in range(10_000):
                        content = sample_message().as_bytes() + b"%d.%d.%d\r\n" % (life, number, count)
                        try:
                            reply = client.deliver(content)
                        except (ConnectionError, AssertionError):
                            return
                        if reply.startswith("250 "):
                            accepted.add(content)
                            enough.release()

            senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
            for thread in senders:
                thread.start()
            for _ in range(25 + 10 * life):
                assert enough.acquire(timeout=30)
            server.kill()
            for thread in senders:
                thread.join()
        sent += 1
    with a_provider(maildir=folder) as provider:
        stored = taro(provider)
    assert len(accepted) >= 60
    assert accepted <= set(stored)
    assert len(stored) == len(set(stored)) <= len(accepted) + 4 * sent  # at most what was stored but not yet answered
    assert all(re.search(rb"\r\n\d\.\d\.\d+\r\n\Z", content) for content in stored)


class _Remote:
    """A provider in another process, as Client needs to know it."""

    host = "127.0.0.1"
    policy = a_provider().policy

    def __init__(self, smtp_port: int) -> None:
        self.smtp_port = smtp_port

    def client(self) -> Client:
        return Client(self, "smtp")  # type: ignore[arg-type]
