"""How fast a large mail capture is read, next to scapy, dpkt and tshark: the same file, one run, ratios.

Every reader does the same work: read the packets, put each side's octets in order, list the SMTP commands; all must find
the same number of them. labkit and tshark are asked as their users ask them, and follow the whole protocol; on top of the
packet libraries stands the least that a script must do. Spans, which explain every octet, are measured beside the listing.
Each runs in a process of its own, so that its peak memory is its own; what is counted is the processor's time, so that a
busy machine does not decide, and the best of three runs of each, taken in turns, so that luck does not.

Nobody is charged for another's start. "work" is without imports, and without what tshark takes for an empty capture; to that
the ratios and the goals refer. "whole" is the process from its first instruction on, with the interpreter and all imports:
what one call from a shell costs. scapy's TCPSession puts in order only what a packet class with `tcp_reassemble` asks for,
so it is given the smallest one; and it keeps no packets (`store=False`), which is its quicker way.

    python -m tests.benchmarks.reading [PACKETS]
"""

import json
import resource
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PACKETS, ROUNDS = 100_000, 3
GOALS = {"labkit's spans": 10, "scapy PcapReader": 50, "scapy TCPSession": 250, "dpkt": 3, "tshark": 8}
SIZES = (1_000, 10_000, 100_000, 1_000_000)
_SERVER = bytes([192, 0, 2, 25])
_BODY = b"".join(b"Line %04d of a message that is as long as mails on the way often are.\r\n" % n for n in range(60))


def session(number: int) -> Iterator[tuple[bool, int, bytes]]:
    """One sending of one mail: (from the client, TCP flags, octets) for each packet."""
    client, ack, fin = True, 0x10, 0x11

    def says(who: bool, data: bytes) -> Iterator[tuple[bool, int, bytes]]:
        for at in range(0, len(data), 1448):
            yield who, 0x18, data[at : at + 1448]

    yield client, 0x02, b""
    yield not client, 0x12, b""
    yield client, ack, b""
    yield from says(not client, b"220 mail.example ESMTP\r\n")
    for command, reply in (
        (b"EHLO client.example\r\n", b"250-mail.example\r\n250-SIZE 10485760\r\n250 AUTH PLAIN LOGIN\r\n"),
        (b"AUTH PLAIN AGhhbmFrbwBub3QtYS1zZWNyZXQ=\r\n", b"235 2.7.0 Authentication successful\r\n"),
        (b"MAIL FROM:<hanako@mail.example>\r\n", b"250 2.1.0 OK\r\n"),
        (b"RCPT TO:<taro%d@mail.example>\r\n" % number, b"250 2.1.5 OK\r\n"),
        (b"DATA\r\n", b"354 End data with <CR><LF>.<CR><LF>\r\n"),
        (b"Subject: %d\r\n\r\n" % number + _BODY + b".\r\n", b"250 2.0.0 OK: queued\r\n"),
        (b"QUIT\r\n", b"221 2.0.0 Bye\r\n"),
    ):
        yield from says(client, command)
        yield not client, ack, b""
        yield from says(not client, reply)
    yield client, fin, b""
    yield not client, fin, b""
    yield client, ack, b""


def make(path: Path, packets: int) -> None:
    """Write a capture of `packets` packets: eight SMTP sessions at a time, their packets mixed."""
    ethernet = bytes(range(12)) + b"\x08\x00"
    written, number = 0, 0
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        while written < packets:
            open_sessions = []
            for _lane in range(8):
                number += 1
                address = bytes([198, 51, number >> 14 & 255, number >> 6 & 255])
                open_sessions.append(
                    (session(number), address, 40000 + (number & 63), [number * 7919 % 2**32, number * 104729 % 2**32])
                )
            while open_sessions and written < packets:
                for entry in list(open_sessions):
                    steps, address, port, sequence = entry
                    step = next(steps, None)
                    if step is None or written == packets:
                        open_sessions.remove(entry)
                        continue
                    who, flags, data = step
                    me = 0 if who else 1
                    ends = (address + _SERVER, port, 25) if who else (_SERVER + address, 25, port)
                    acknowledged = sequence[1 - me] if flags & 0x10 else 0
                    ip = struct.pack(
                        ">BBHHHBBH8s", 0x45, 0, 40 + len(data), written & 0xFFFF, 0x4000, 64, 6, 0, ends[0]
                    )
                    tcp = struct.pack(">HHIIBBHHH", *ends[1:], sequence[me], acknowledged, 0x50, flags, 64240, 0, 0)
                    frame = ethernet + ip + tcp + data
                    file.write(
                        struct.pack("<IIII", 1700000000 + written // 1000, written % 1000 * 1000, *2 * (len(frame),))
                    )
                    file.write(frame)
                    sequence[me] = (sequence[me] + len(data) + (1 if flags & 3 else 0)) % 2**32
                    written += 1


def labkit(path: str) -> Callable[[], int]:
    from labkit.capture import Capture

    return lambda: sum(len(flow.commands) for flow in Capture.load(path).flows)


def labkit_spans(path: str) -> Callable[[], int]:
    from labkit.capture import Capture

    return lambda: sum(len(flow.spans(side)) for flow in Capture.load(path).flows for side in ("client", "server"))


def _commands(data: bytes) -> int:
    """The least that a script must know of SMTP to list a client's commands: that messages are none."""
    count, in_message = 0, False
    for line in data.split(b"\r\n"):
        if in_message:
            in_message = line != b"."
        elif line:
            count += 1
            in_message = line.upper() == b"DATA"
    return count


def _in_order(pieces: Iterator[tuple[tuple[object, ...], int, bytes]]) -> int:
    """The least that a reader on top of a packet library must do: append what is next, by sequence number."""
    streams: dict[tuple[object, ...], bytearray] = {}
    following: dict[tuple[object, ...], int] = {}
    for key, sequence, payload in pieces:
        if payload and following.get(key, sequence) == sequence:
            streams.setdefault(key, bytearray()).extend(payload)
            following[key] = sequence + len(payload) & 0xFFFFFFFF
    return sum(_commands(bytes(data)) for key, data in streams.items() if key[-1] == 25)


def dpkt(path: str) -> Callable[[], int]:
    import dpkt as library

    def pieces() -> Iterator[tuple[tuple[object, ...], int, bytes]]:
        with Path(path).open("rb") as file:
            for _time, data in library.pcap.Reader(file):
                ip = library.ethernet.Ethernet(data).data
                tcp = ip.data
                yield (ip.src, ip.dst, tcp.sport, tcp.dport), tcp.seq, tcp.data

    return lambda: _in_order(pieces())


def scapy_reader(path: str) -> Callable[[], int]:
    from scapy.layers import inet, l2  # noqa: F401
    from scapy.utils import PcapReader

    def pieces() -> Iterator[tuple[tuple[object, ...], int, bytes]]:
        for packet in PcapReader(path):
            ip, tcp = packet[inet.IP], packet[inet.TCP]
            yield (ip.src, ip.dst, tcp.sport, tcp.dport), tcp.seq, bytes(tcp.payload)

    return lambda: _in_order(pieces())


def scapy_session(path: str) -> Callable[[], int]:
    from scapy.layers import inet
    from scapy.packet import Packet, Raw, bind_layers
    from scapy.sendrecv import sniff
    from scapy.sessions import TCPSession

    class Mail(Packet):  # type: ignore[misc]
        """Asks TCPSession for everything up to a line end."""

        name = "Mail"
        fields_desc = ()

        @classmethod
        def tcp_reassemble(cls, data: bytes, _metadata: object, _session: object) -> Packet | None:
            return Raw(data) if data.endswith(b"\r\n") else None

    bind_layers(inet.TCP, Mail, dport=25)
    bind_layers(inet.TCP, Mail, sport=25)

    def work() -> int:
        streams: dict[tuple[str, int], bytearray] = {}

        def take(packet: Packet) -> None:
            if packet.haslayer(Raw) and packet[inet.TCP].dport == 25:
                key = packet[inet.IP].src, packet[inet.TCP].sport
                streams.setdefault(key, bytearray()).extend(packet[Raw].load)

        sniff(offline=path, session=TCPSession, prn=take, store=False)
        return sum(_commands(bytes(data)) for data in streams.values())

    return work


def tshark(path: str) -> Callable[[], int]:
    command = [
        "tshark",
        "-r",
        path,
        "-Y",
        "smtp.req.command",
        "-T",
        "fields",
        "-e",
        "tcp.stream",
        "-e",
        "smtp.req.command",
        "-e",
        "smtp.req.parameter",
    ]
    return lambda: subprocess.run(command, capture_output=True, check=True).stdout.count(b"\n")


READERS = {
    "labkit": labkit,
    "labkit's spans": labkit_spans,
    "dpkt": dpkt,
    "tshark": tshark,
    "scapy PcapReader": scapy_reader,
    "scapy TCPSession": scapy_session,
}


def _peak() -> float:
    """This process's peak memory, or its largest child's, in MB."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    status = Path("/proc/self/status")
    if children or not status.exists():
        return children or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    own = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(own.split()[1]) / 1024


def measure(reader: str, path: Path) -> dict[str, float]:
    """Seconds of work and of the whole, peak MB and commands (or spans) found of one reader, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.reading", "--reader", reader, str(path)]
    result = subprocess.run(command, capture_output=True, check=True, text=True)
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def best(runs: list[dict[str, float]]) -> dict[str, float]:
    """The least of each figure; what was found is the same every time."""
    return {name: min(run[name] for run in runs) for name in runs[0]}


def main(packets: int = PACKETS) -> None:
    """Print the table of readers and the growth with the size of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path, empty = Path(folder, "mail.pcap"), Path(folder, "empty.pcap")
        make(path, packets)
        make(empty, 0)
        print(f"{packets:,} packets, {path.stat().st_size / 1e6:.1f} MB: read, reassembled, SMTP commands listed")
        print(f"{'':18}{'work':>11}{'ratio':>10}{'whole':>11}{'ratio':>10}{'peak':>11}")
        rounds = [{reader: measure(reader, path) for reader in READERS} for _round in range(ROUNDS)]
        figures = {reader: best([measured[reader] for measured in rounds]) for reader in READERS}
        figures["tshark"]["work"] -= best([measure("tshark", empty) for _round in range(ROUNDS)])["work"]
        ours = figures["labkit"]
        for reader, theirs in figures.items():
            ratios = {name: theirs[name] / ours[name] for name in ("work", "whole")}
            goal = f"  goal {'<' if reader.startswith('labkit') else '≥'} {GOALS[reader]} ×" if reader in GOALS else ""
            found = "spans" if reader == "labkit's spans" else "commands"
            print(
                f"{reader:18}{theirs['work']:9.3f} s{ratios['work']:8.1f} ×{theirs['whole']:9.3f} s{ratios['whole']:8.1f} ×"
                f"{theirs['peak']:8.1f} MB{theirs['found']:9,} {found}{goal}"
            )
            if found == "commands" and theirs["found"] != ours["found"]:
                print(f"{reader} does not find what labkit finds: this is no comparison")
        print("growth of labkit's time and memory")
        for size in SIZES:
            make(path, size)
            grown = measure("labkit", path)
            print(f"{size:>12,} packets {grown['work'] * 1e6 / size:8.2f} µs a packet {grown['peak']:8.1f} MB")


def _spent() -> float:
    """Processor seconds of this process and the children it has waited for."""
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _reader(name: str, path: str) -> None:
    work = READERS[name](path)
    began = _spent()
    found = work()
    spent = _spent()
    # tshark is no library: its whole is its own process, not the interpreter that called it
    whole = spent - began if name == "tshark" else spent
    print(json.dumps({"work": spent - began, "whole": whole, "found": found, "peak": _peak()}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--reader"]:
        _reader(sys.argv[2], sys.argv[3])
    else:
        main(*map(int, sys.argv[1:]))
