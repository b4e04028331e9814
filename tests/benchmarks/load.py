"""Fifty clients at once, ten thousand messages, both servers, the capture on: is every message that got 250 there once?

Each client sends its share, 20 messages on each connection, and reads taro's mail now and then, as a class does. Then every
message is counted, byte for byte, and read once more by POP3. The same load goes to bare aiosmtpd, in the same run, for
throughput and peak memory; each server is a process of its own.

    python -m tests.benchmarks.load [CLIENTS MESSAGES]
"""

import contextlib
import multiprocessing
import poplib
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil

from labkit.mail.sample import LESSON_ACCOUNTS, sample_message
from tests.benchmarks.serving import bare, reply

CLIENTS = 50
MESSAGES = 10_000
PER_CONNECTION = 20
TARO = {account.local_part: account for account in LESSON_ACCOUNTS}["taro"]
SAMPLE = sample_message().as_bytes()
COMMANDS = (b"MAIL FROM:<hanako@mail.example>\r\n", b"RCPT TO:<taro@mail.example>\r\n", b"DATA\r\n")


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. seconds: of sending. memory: the server's peak in octets. lost, doubled, altered: messages."""

    accepted: int
    seconds: float
    memory: int
    lost: int
    doubled: int
    altered: int
    looks: int


def lab(pipe: Connection) -> None:
    """The provider with the tap recording; at the end, what it stored."""
    from labkit.provider import Provider

    with Provider("plaintext", repeatable=True) as provider, provider.capture("tap"):
        pipe.send((provider.smtp_port, provider.pop3_port))
        pipe.recv()
        pipe.send([message.content for message in provider.maildrops["taro"].messages()])
        pipe.recv()


def message(number: int) -> bytes:
    """The sample message with a number of its own, ready to be stored and, because no line begins with a dot, to be sent."""
    return SAMPLE + b"message %d\r\n" % number


def send(port: int, numbers: range, accepted: list[int], pop3_port: int | None, looks: list[int]) -> None:
    """Send these messages, and note which got 250."""
    for first in range(numbers.start, numbers.stop, PER_CONNECTION):
        with socket.create_connection(("127.0.0.1", port), 60) as sock, sock.makefile("rb") as answer:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reply(answer)
            sock.sendall(b"EHLO client.example\r\n")
            reply(answer)
            for number in range(first, min(first + PER_CONNECTION, numbers.stop)):
                for command in (*COMMANDS, message(number) + b".\r\n"):
                    sock.sendall(command)
                    reply(answer)
                accepted.append(number)
            sock.sendall(b"QUIT\r\n")
            reply(answer)
        if pop3_port is not None:
            with contextlib.suppress(poplib.error_proto):  # [IN-USE]: another client is looking
                looks.append(look(pop3_port))


def look(port: int) -> int:
    """How many messages taro has."""
    pop3 = poplib.POP3("127.0.0.1", port, 60)
    try:
        pop3.user(TARO.login)
        pop3.pass_(TARO.password)
        return pop3.stat()[0]
    finally:
        pop3.quit()


def read_all(port: int) -> list[bytes]:
    """Everything that taro has, by POP3."""
    pop3 = poplib.POP3("127.0.0.1", port, 60)
    pop3.user(TARO.login)
    pop3.pass_(TARO.password)
    try:
        return [b"\r\n".join(pop3.retr(number)[1]) + b"\r\n" for number in range(1, pop3.stat()[0] + 1)]
    finally:
        pop3.quit()


def run(server: Any, clients: int = CLIENTS, messages: int = MESSAGES) -> Load:
    """Start a server (`lab`, or serving.py's `bare`), load it, and judge."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=server, args=(there,))
    process.start()
    ports = here.recv()
    smtp_port, pop3_port = ports if isinstance(ports, tuple) else (ports, None)
    accepted: list[int] = []
    looks: list[int] = []
    share = -(-messages // clients)
    shares = [range(first, min(first + share, messages)) for first in range(0, messages, share)]
    threads = [threading.Thread(target=send, args=(smtp_port, part, accepted, pop3_port, looks)) for part in shares]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    memory = peak(process.pid)
    stored: list[bytes] = []
    if pop3_port is not None:
        by_pop3 = read_all(pop3_port)
        here.send("tell")
        stored = here.recv()
        assert by_pop3 == stored
    here.send("stop")
    process.join()
    found = Counter(stored)
    wanted = {message(number) for number in accepted} if pop3_port is not None else set()
    return Load(
        accepted=len(accepted),
        seconds=seconds,
        memory=memory,
        lost=len(wanted - found.keys()),
        doubled=sum(count - 1 for count in found.values()),
        altered=len(found.keys() - wanted),
        looks=len(looks),
    )


def peak(pid: int | None) -> int:
    """The most memory that a process has had, in octets; what it has now, where the system does not tell."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)


def main(clients: int = CLIENTS, messages: int = MESSAGES) -> None:
    """Print what came of it, beside bare aiosmtpd."""
    ours, theirs = run(lab, clients, messages), run(bare, clients, messages)
    print(f"{clients} clients at once, {messages:,} messages, the lab recording and read by POP3 {ours.looks:,} times")
    print(f"  250 for {ours.accepted:,}: lost {ours.lost}, doubled {ours.doubled}, altered {ours.altered}")
    for name, load in (("labkit", ours), ("bare aiosmtpd", theirs)):
        rate = load.accepted / load.seconds
        print(f"  {name:16}{rate:8,.0f} messages/s {load.memory / 2**20:8,.0f} MiB at most")
    print(f"  throughput as a ratio{theirs.seconds / ours.seconds:8.2f}  goal ≥ 0.9")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
