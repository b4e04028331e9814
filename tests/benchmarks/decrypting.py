"""How fast a long TLS session is opened with its key log, next to scapy: the same packets, one run, a ratio.

OpenSSL makes the session in memory. What is counted is the processor's time from TCP's bytes to plaintext: labkit reads both
streams from their first byte; scapy follows packets that hold one record each, which is the easiest case for it. scapy is
asked for TLS 1.3 alone, where it opens what it is given.

    python -m tests.benchmarks.decrypting [OCTETS]
"""

import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labkit.decode.tls import decrypt
from labkit.decode.tls import session as tls
from labkit.wire.flows import Side
from tests.decode.handshakes import Exchange, Maker

OCTETS = 1_500_000
GOAL = 15
SESSIONS = {
    "TLS 1.2, AES-GCM": (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-GCM-SHA256"),
    "TLS 1.2, AES-CBC": (ssl.TLSVersion.TLSv1_2, "AES128-SHA256"),
    "TLS 1.3": (ssl.TLSVersion.TLSv1_3, ""),
}


def with_labkit(exchange: Exchange) -> bytes:
    """The client's application data as labkit opens it."""
    session = tls.read(exchange.client, exchange.server)
    return decrypt.open_session(
        session, exchange.client, exchange.server, decrypt.parse_keylog(exchange.keylog)
    ).client.data


def with_scapy(exchange: Exchange, folder: Path) -> Callable[[], bytes]:
    """What opens the same with scapy; its imports, the key log's reading and the packets' making are not counted."""
    from scapy.all import IP, TCP, conf
    from scapy.layers.tls.all import TLS13, TLSApplicationData
    from scapy.layers.tls.session import load_nss_keys
    from scapy.sendrecv import sniff
    from scapy.sessions import TCPSession

    log = folder / "keys-for-scapy.log"
    log.write_text(exchange.keylog)
    conf.tls_session_enable, conf.tls_nss_filename = True, str(log)
    conf.tls_nss_keys = load_nss_keys(str(log))
    ends = {Side.CLIENT: ("192.0.2.10", 40000), Side.SERVER: ("192.0.2.25", 443)}
    streams = {Side.CLIENT: exchange.client.data, Side.SERVER: exchange.server.data}
    sequence = {Side.CLIENT: 1000, Side.SERVER: 5000}  # with equal ones scapy mixes the two directions up
    packets = []
    for record in tls.read(exchange.client, exchange.server).records:
        here, there = record.side, Side.SERVER if record.side is Side.CLIENT else Side.CLIENT
        data = streams[here][record.start : record.end]
        header = TCP(sport=ends[here][1], dport=ends[there][1], flags="PA", seq=sequence[here], ack=sequence[there])
        packets.append(IP(bytes(IP(src=ends[here][0], dst=ends[there][0]) / header / data)))
        sequence[here] += len(data)

    def work() -> bytes:
        followed = sniff(offline=packets, session=TCPSession, quiet=True)
        theirs = [packet[TLS13].inner.msg for packet in followed if TLS13 in packet and packet[IP].dport == 443]
        return b"".join(part.data for parts in theirs for part in parts if isinstance(part, TLSApplicationData))

    return work


def seconds(work: Callable[[], bytes], expected: bytes, runs: int) -> float:
    """The processor's time for the best of some runs; the work must give the expected bytes."""
    best = float("inf")
    for _run in range(runs):
        started = time.process_time()
        found = work()
        best = min(best, time.process_time() - started)
        if found != expected:
            raise ValueError("the session was not opened as it was made")
    return best


def main(octets: int = OCTETS) -> None:
    """Print one line for each kind of session."""
    letter = bytes(range(256)) * (octets // 256)
    print(f"{octets:,} octets in one TLS session, read and opened with its key log")
    with tempfile.TemporaryDirectory() as folder:
        maker = Maker(Path(folder))
        for name, (version, suite) in SESSIONS.items():
            exchange = maker.exchange(maker.contexts(version, suite), [(Side.CLIENT, letter)])
            ours = seconds(lambda exchange=exchange: with_labkit(exchange), letter, 5)
            line = f"{name:18}{ours * 1000:8.1f} ms"
            if name == "TLS 1.3":
                theirs = seconds(with_scapy(exchange, Path(folder)), letter, 1)
                line += f"   scapy {theirs * 1000:8.1f} ms {theirs / ours:8.1f} ×  goal {GOAL}"
            print(line)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
