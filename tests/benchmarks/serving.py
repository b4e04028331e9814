"""How fast the lab's SMTP server takes mail, next to bare aiosmtpd, and what recording costs: one run, ratios.

Each server runs in a process of its own; one client process sends the same messages over raw sockets, so that the
server's speed is what is measured. The servers take turns, and the ratio is the median over the rounds.

    python -m tests.benchmarks.serving [MESSAGES]
"""

import asyncio
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from labkit.mail.sample import sample_message

MESSAGES = 1_000
ROUNDS = 5
GOAL = 0.9


class Store:
    """What bare aiosmtpd does with a message: keep it, as the lab does."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        self.kept.append(envelope.content)
        return "250 2.0.0 OK"


def bare(pipe: Connection) -> None:
    """aiosmtpd as it comes, with SIZE, SMTPUTF8 and a name of its own."""
    from aiosmtpd.smtp import SMTP

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        store = Store()
        server = await loop.create_server(
            lambda: SMTP(store, hostname="mail.example", enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0
        )
        pipe.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, pipe.recv)
        server.close()

    asyncio.run(serve())


def lab(pipe: Connection, engine: str | None) -> None:
    """The lab's provider, recording or not."""
    from labkit.provider import Provider

    with Provider("plaintext", repeatable=True) as provider:
        capture = provider.capture(engine) if engine else None
        if capture:
            capture.start()
        pipe.send(provider.smtp_port)
        pipe.recv()
        if capture:
            capture.stop()
            assert len(capture.flows) > 0


def recorded(pipe: Connection) -> None:
    """The lab's provider with the tap recording."""
    lab(pipe, "tap")


def unrecorded(pipe: Connection) -> None:
    """The lab's provider without a recording."""
    lab(pipe, None)


SERVERS: dict[str, Callable[[Connection], None]] = {
    "bare aiosmtpd": bare,
    "labkit, recording": recorded,
    "labkit, not recording": unrecorded,
}


def send(port: int, messages: int, per_connection: int) -> float:
    """Seconds for `messages` messages, `per_connection` of them on each connection."""
    body = sample_message().as_bytes() + b".\r\n"
    commands = (b"MAIL FROM:<hanako@mail.example>\r\n", b"RCPT TO:<taro@mail.example>\r\n", b"DATA\r\n", body)
    began = time.perf_counter()
    for _connection in range(messages // per_connection):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer = sock.makefile("rb")
            reply(answer)
            sock.sendall(b"EHLO client.example\r\n")
            reply(answer)
            for _message in range(per_connection):
                for command in commands:
                    sock.sendall(command)
                    reply(answer)
            sock.sendall(b"QUIT\r\n")
            reply(answer)
    return time.perf_counter() - began


def reply(answer: Any) -> None:
    """Read one reply of SMTP. Raises RuntimeError for one that is not positive."""
    while True:
        line = answer.readline()
        if line[:1] not in b"23" or not line:
            raise RuntimeError(f"the server said {line!r}")
        if line[3:4] == b" ":
            return


def measure(messages: int, per_connection: int) -> dict[str, list[float]]:
    """Seconds of each server in each round; the servers take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in SERVERS}
    context = multiprocessing.get_context("spawn")
    for _round in range(ROUNDS):
        for name, server in SERVERS.items():
            here, there = context.Pipe()
            process = context.Process(target=server, args=(there,))
            process.start()
            port = here.recv()
            send(port, 20, 1)
            seconds[name].append(send(port, messages, per_connection))
            here.send("stop")
            process.join()
    return seconds


def main(messages: int = MESSAGES) -> None:
    """Print the table."""
    for per_connection in (1, 20):
        seconds = measure(messages, per_connection)
        print(f"{messages:,} messages, {per_connection} on each connection, throughput as a ratio (median of {ROUNDS})")
        for first, second in (("labkit, recording", "bare aiosmtpd"), ("labkit, recording", "labkit, not recording")):
            ratios = [theirs / ours for ours, theirs in zip(seconds[first], seconds[second], strict=True)]
            spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
            print(f"  {first} : {second:24}{statistics.median(ratios):6.2f}  ({spread})  goal ≥ {GOAL}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
