"""The live engine: the kernel's own packets on the loopback interface, of the lab's ports and of nothing else.

A packet socket is opened with no protocol, so it is deaf; its filter, buffer and timestamps are set; `bind` makes it hear,
at once and completely. The filter is in the kernel: what belongs to other programs never reaches this one. A thread only
receives; whatever has to be understood is understood after the recording has stopped.
"""

import contextlib
import ctypes
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice

from labkit.texts import _
from labkit.wire.frames import ETHERNET, FIN, RST, SYN, Frame

INTERFACE = "lo"
ADDRESS = "127.0.0.1"
BUFFER = 4 << 20  # octets that the kernel keeps for us
BATCH = 0.01  # seconds that packets may wait in it: waking for each one would take the servers' time
LARGEST = 256 << 10  # octets of one packet: loopback carries 64 KiB, and more where somebody has asked for it
GRACE = 0.5  # seconds that stop() waits for the rest of a close that has begun
OPEN_GRACE = 0.02  # seconds that it waits where no close has begun

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h: the socket module does not name them.
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23
_ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_TIMESPEC = struct.Struct("@ll")


def available() -> str:
    """Why live capture is not possible here: a sentence, or "" where it is possible."""
    if not sys.platform.startswith("linux"):
        return _("Live capture works on Linux only; this system keeps its loopback packets behind BPF or Npcap.")
    try:
        _listening(()).close()
    except PermissionError:
        return _("Live capture needs the right to open packet sockets (root, or CAP_NET_RAW for Python).")
    except OSError as error:
        return _("Live capture is not possible on this system ({reason}).").format(reason=error.strerror)
    return ""


class LiveEngine:
    """The packets from and to `ports` of 127.0.0.1, while it runs."""

    name = "live"

    def __init__(self, ports: Iterable[int]) -> None:
        self._ports = tuple(ports)
        self._received: list[tuple[bytes, bytes, int]] = []
        self._closing = _Closing()
        self._stop = threading.Event()
        self._dropped = 0
        self.running = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What the kernel had to drop, if it did."""
        if not self._dropped:
            return ()
        return (
            _(
                "The operating system dropped packets of this capture, which came faster than they were taken: {count}."
            ).format(count=self._dropped),
        )

    def start(self) -> None:
        """Record from the moment this returns. Raises OSError where `available` says no."""
        self._socket = _listening(self._ports)
        self._wake = os.eventfd(0)
        self._thread = threading.Thread(target=self._receive, name="labkit live capture", daemon=True)
        self._thread.start()
        self.running = True

    def stop(self) -> None:
        """Stop, once every connection that is being closed is closed: that takes a moment, and half a second at most."""
        if not self.running:
            return
        self._stop.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._dropped = struct.unpack("II", statistics)[1]
        self._socket.close()
        os.close(self._wake)
        self.running = False

    def frames(self) -> Sequence[Frame]:
        """The packets so far.

        The kernel begins to stamp packets a little after it was asked to; the first ones may carry the later time at which
        they were taken. No packet can be younger than the one after it.
        """
        received = tuple(self._received)
        stamps = [
            seconds * 1_000_000_000 + ns for seconds, ns in (_TIMESPEC.unpack(stamp) for stamp, _d, _l in received)
        ]
        times = [*accumulate(reversed(stamps), min)][::-1]
        return tuple(
            Frame(when, data, length, ETHERNET) for when, (_stamp, data, length) in zip(times, received, strict=True)
        )

    def _receive(self) -> None:
        view = memoryview(bytearray(LARGEST))
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        waker = select.poll()
        waker.register(self._socket, select.POLLIN)
        waker.register(self._wake, select.POLLIN)
        while not self._stop.is_set():
            waker.poll()
            self._stop.wait(BATCH)
            self._drain(view)
        self._drain(view)
        began = time.monotonic()
        while self._closing.patience(self._received) > time.monotonic() - began:
            poll.poll(1)
            self._drain(view)
        # The acknowledgement of the last FIN.
        poll.poll(1)
        self._drain(view)

    def _drain(self, view: memoryview) -> None:
        receive = self._socket.recvmsg_into
        with contextlib.suppress(BlockingIOError):
            while True:
                length, ancillary, _flags, _sender = receive([view], 64, socket.MSG_TRUNC)
                self._received.append((ancillary[0][2], bytes(view[:length]), length))


class _Closing:
    """Which connections are open, half closed or closed, as far as the packets tell."""

    def __init__(self) -> None:
        self._seen = 0
        self._fins: dict[bytes, set[bytes]] = {}

    def patience(self, received: Sequence[tuple[bytes, bytes, int]]) -> float:
        """Seconds that it is worth to wait in all: none when every connection has closed."""
        for _stamp, data, _length in islice(received, self._seen, None):
            self._note(data)
        self._seen = len(received)
        if not self._fins:
            return 0
        return GRACE if any(self._fins.values()) else OPEN_GRACE

    def _note(self, data: bytes) -> None:
        tcp = 14 + 4 * (data[14] & 0x0F)
        source = data[26:30] + data[tcp : tcp + 2]
        target = data[30:34] + data[tcp + 2 : tcp + 4]
        key = min(source, target) + max(source, target)
        flags = data[tcp + 13]
        if flags & RST:
            self._fins.pop(key, None)
        elif flags & SYN:
            self._fins[key] = set()
        elif flags & FIN:
            fins = self._fins.setdefault(key, set())
            fins.add(source)
            if len(fins) == 2:
                del self._fins[key]
        elif len(data) > tcp + 20 + ((data[tcp + 12] >> 4) - 5) * 4:
            self._fins.setdefault(key, set())


def _listening(ports: Sequence[int]) -> socket.socket:
    """A packet socket that hears `ports`."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sock.setblocking(False)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        _filter(sock, _program(ports))
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind((INTERFACE, _ETH_P_ALL))
    except BaseException:
        sock.close()
        raise
    return sock


def _filter(sock: socket.socket, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    )


def _program(ports: Sequence[int]) -> bytes:
    """Classic BPF: TCP in unfragmented IPv4, to or from one of `ports` of 127.0.0.1 (McCanne and Jacobson 1993)."""
    load_word, load_half, load_octet, load_half_x, load_header_length = 0x20, 0x28, 0x30, 0x48, 0xB1
    equal, any_bit, give = 0x15, 0x45, 0x06
    address = int.from_bytes(socket.inet_aton(ADDRESS), "big")
    wanted = [("", equal, "accept", "", port) for port in ports]
    # Its own label, the instruction, where to go if true and if false ("": on to the next), the operand.
    program = [
        ("", load_half, "", "", 12),
        ("", equal, "", "refuse", 0x0800),
        ("", load_octet, "", "", 23),
        ("", equal, "", "refuse", 6),
        ("", load_half, "", "", 20),
        ("", any_bit, "refuse", "", 0x3FFF),
        ("", load_header_length, "", "", 14),
        ("", load_word, "", "", 30),
        ("", equal, "", "source", address),
        ("", load_half_x, "", "", 16),
        *wanted,
        ("source", load_word, "", "", 26),
        ("", equal, "", "refuse", address),
        ("", load_half_x, "", "", 14),
        *wanted,
        ("refuse", give, "", "", 0),
        ("accept", give, "", "", LARGEST),
    ]
    places = {label: place for place, (label, *_rest) in enumerate(program) if label}
    return b"".join(
        struct.pack("@HBBI", code, *(places[label] - place - 1 if label else 0 for label in (true, false)), operand)
        for place, (_label, code, true, false, operand) in enumerate(program)
    )
