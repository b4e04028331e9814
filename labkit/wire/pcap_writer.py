"""Writes captures: pcap and pcapng, as the name's suffix says. What is read again (wire/pcap.py) is the same to the bit.

pcap: draft-ietf-opsawg-pcap; pcapng: draft-ietf-opsawg-pcapng.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from labkit import files
from labkit.errors import BadCapture
from labkit.texts import _
from labkit.wire.capture_file import SECOND
from labkit.wire.frames import ETHERNET, Frame
from labkit.wire.pcap import (
    ENHANCED,
    IF_NAME,
    IF_TSRESOL,
    INTERFACE,
    LARGEST_PACKET,
    OPT_COMMENT,
    PCAP_MAGIC,
    SECRETS,
    SECTION,
    TLS_KEYLOG,
)

_PCAP_TIMES = range(2**32 * SECOND)  # ns: 32 bits of seconds
_PCAPNG_TIMES = range(2**64)  # ns: 64 bits, in the unit that `write` takes
_SHB_APPLICATION, _IF_DESCRIPTION = 4, 3  # options that are written and not read


def write(path: str | os.PathLike[str], frames: Iterable[Frame], *, comment: str = "", keylog: str = "") -> None:
    """Write a capture: pcap or pcapng, as the name's suffix says.

    pcap has microseconds where nothing is lost by it, else nanoseconds; it has no place for a comment or a key log, so they
    are left out. pcapng keeps both: Wireshark then decrypts by itself. An existing file is replaced only by a complete one.
    Raises BadCapture for another suffix, for frames of several link types in a pcap, for times that
    the format cannot hold, and when the system refuses.
    """
    path = Path(path)
    blocks = _format(path)
    try:
        files.write(path, blocks(path, list(frames), comment, keylog))
    except OSError as error:
        raise _unwritable(path, error) from None


def refuse_unwritable(path: str | os.PathLike[str]) -> None:
    """Raise now what `write` would raise for this name, for whoever has no capture yet, and then one to lose."""
    path = Path(path)
    _format(path)
    try:
        files.refuse_unwritable(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _format(path: Path) -> Callable[[Path, list[Frame], str, str], Iterator[bytes]]:
    """What makes the octets of a file of that name."""
    blocks = {".pcap": _pcap_file, ".pcapng": _pcapng_file}.get(path.suffix.lower())
    if blocks is None:
        raise BadCapture(
            _("{file} cannot be saved: the name must end in .pcap or .pcapng, which says what is written.").format(
                file=path
            )
        )
    return blocks


def _unwritable(path: Path, error: OSError) -> BadCapture:
    message = _("{file} cannot be saved: {reason}. Choose another name, in a folder that you may write to.")
    return BadCapture(message.format(file=path, reason=error.strerror or error))


def _refuse_times_outside(path: Path, frames: list[Frame], times: range, year: int) -> None:
    for number, frame in enumerate(frames, 1):
        if frame.time not in times:
            message = _(
                "{file} cannot be saved: packet {number} has a time outside 1970 to {year}, which is all that such a file "
                "holds. Move the times first, for example with editcap -t; .pcapng goes up to 2554."
            )
            raise BadCapture(message.format(file=path, number=number, year=year))


def _pcap_file(path: Path, frames: list[Frame], comment: str, keylog: str) -> Iterator[bytes]:
    links = {frame.link for frame in frames} or {ETHERNET}
    if len(links) > 1:
        raise BadCapture(
            _(
                "{file} cannot be saved: its packets come from several kinds of link, which only .pcapng can hold."
            ).format(file=path)
        )
    _refuse_times_outside(path, frames, _PCAP_TIMES, 2106)
    unit = 1 if any(frame.time % 1000 for frame in frames) else 1000
    magic = next(magic for magic, kind in PCAP_MAGIC.items() if kind == ("<", unit))
    yield magic + struct.pack("<HHiIII", 2, 4, 0, 0, LARGEST_PACKET, links.pop())
    for frame in frames:
        seconds, rest = divmod(frame.time, SECOND)
        yield struct.pack("<IIII", seconds, rest // unit, len(frame.data), frame.length) + frame.data


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option_list(*options: tuple[int, bytes]) -> bytes:
    """Options with a value, closed by the end of options; nothing at all when none has one."""
    written = [
        struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
        for code, value in ((code, value[:0xFFFF]) for code, value in options if value)
    ]
    return b"".join(written) + bytes(4) if written else b""


def _pcapng_file(path: Path, frames: list[Frame], comment: str, keylog: str) -> Iterator[bytes]:
    _refuse_times_outside(path, frames, _PCAPNG_TIMES, 2554)
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    yield _block(SECTION, section + _option_list((OPT_COMMENT, comment.encode()), (_SHB_APPLICATION, b"labkit")))
    if keylog:
        secrets = keylog.encode()
        yield _block(SECRETS, struct.pack("<II", TLS_KEYLOG, len(secrets)) + secrets)
    links = list(dict.fromkeys(frame.link for frame in frames)) or [ETHERNET]
    for number, link in enumerate(links):
        options = _option_list(
            (IF_NAME, b"labkit%d" % number), (_IF_DESCRIPTION, comment.encode()), (IF_TSRESOL, b"\x09")
        )
        yield _block(INTERFACE, struct.pack("<HHI", link, 0, 0) + options)
    for frame in frames:
        time = frame.time
        head = struct.pack("<5I", links.index(frame.link), time >> 32, time & 0xFFFFFFFF, len(frame.data), frame.length)
        yield _block(ENHANCED, head + frame.data)
