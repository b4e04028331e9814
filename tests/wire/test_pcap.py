"""Capture files: what scapy, dpkt, editcap and tshark write and read, what nobody's tool writes any more, and damage."""

import gzip
import io
import random
import struct
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import BadCapture
from labkit.wire import pcap, pcap_writer
from labkit.wire.flows import reassemble
from labkit.wire.frames import Frame
from tests.conftest import examples, output_of
from tests.wire.building import handshake, segment

NS = 1_000_000_000
TIME = 1_700_000_000 * NS + 123_456_789
FRAMES = [
    Frame(TIME + index * 1_000_000_007, frame.data, frame.length)
    for index, frame in enumerate(
        [*handshake(), segment(sequence=1001, data=b"QUIT\r\n"), segment(sequence=9, data=b"odd", cut=2)]
    )
]
KEYLOG = "CLIENT_RANDOM " + "ab" * 32 + " " + "cd" * 48 + "\n"


def fields(path: Path, *names: str, options: tuple[str, ...] = ()) -> list[list[str]]:
    """What tshark says of each packet."""
    shown = [word for name in names for word in ("-e", name)]
    output = output_of("tshark", "-n", "-r", path, "-T", "fields", *options, *shown)
    return [line.split("\t") for line in output.splitlines()]


def exact(time: str) -> int:
    """Nanoseconds of tshark's seconds."""
    seconds, _point, rest = time.partition(".")
    return int(seconds) * NS + int(rest.ljust(9, "0"))


# pcap


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_as_scapy_writes_it(tmp_path: Path, order: str, nano: bool) -> None:
    from scapy.utils import RawPcapWriter

    path = tmp_path / "a.pcap"
    unit = 1 if nano else 1000
    with RawPcapWriter(str(path), linktype=1, endianness=order, nano=nano) as writer:
        writer.write_header(None)
        for frame in FRAMES:
            seconds, rest = divmod(frame.time, NS)
            writer.write_packet(frame.data, sec=seconds, usec=rest // unit, wirelen=frame.length)
    expected = [Frame(frame.time // unit * unit, frame.data, frame.length) for frame in FRAMES]
    file = pcap.read(path)
    assert list(file.frames) == expected
    assert file.notes == ()


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
@pytest.mark.parametrize("unit", [1, 1000])
def test_what_is_written_is_what_others_read(tmp_path: Path, suffix: str, unit: int) -> None:
    path = tmp_path / f"a{suffix}"
    frames = [Frame(frame.time // unit * unit, frame.data, frame.length) for frame in FRAMES]
    pcap_writer.write(path, frames)
    assert list(pcap.read(path).frames) == frames
    seen = fields(path, "frame.time_epoch", "frame.cap_len", "frame.len")
    assert [(exact(time), int(size), int(length)) for time, size, length in seen] == [
        (frame.time, len(frame.data), frame.length) for frame in frames
    ]
    reader: Any = dpkt.pcap.Reader if suffix == ".pcap" else dpkt.pcapng.Reader
    with path.open("rb") as file:
        assert [data for _time, data in reader(file)] == [frame.data for frame in frames]


def test_microseconds_where_nothing_is_lost(tmp_path: Path) -> None:
    pcap_writer.write(tmp_path / "a.pcap", [Frame(TIME // 1000 * 1000, b"x" * 60, 60)])
    pcap_writer.write(tmp_path / "b.pcap", [Frame(TIME, b"x" * 60, 60)])
    assert (tmp_path / "a.pcap").read_bytes()[:4] == b"\xd4\xc3\xb2\xa1"
    assert (tmp_path / "b.pcap").read_bytes()[:4] == b"\x4d\x3c\xb2\xa1"


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
def test_no_packets_at_all(tmp_path: Path, suffix: str) -> None:
    pcap_writer.write(tmp_path / f"a{suffix}", [])
    file = pcap.read(tmp_path / f"a{suffix}")
    assert (len(file.frames), file.notes, reassemble(file.frames)) == (0, (), ())
    assert fields(tmp_path / f"a{suffix}", "frame.number") == []


def test_frames_behave_like_a_sequence(tmp_path: Path) -> None:
    pcap_writer.write(tmp_path / "a.pcapng", FRAMES)
    frames = pcap.read(tmp_path / "a.pcapng").frames
    assert frames[-1] == FRAMES[-1]
    assert frames[1:3] == FRAMES[1:3]
    assert FRAMES[2] in frames
    with pytest.raises(IndexError):
        _ = frames[len(FRAMES)]


# pcapng


def test_comment_and_key_log_are_kept_and_seen_by_wireshark(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    pcap_writer.write(path, FRAMES, comment="recorded by labkit's tap, höchstpersönlich", keylog=KEYLOG)
    file = pcap.read(path)
    assert (file.comment, file.keylog) == ("recorded by labkit's tap, höchstpersönlich", KEYLOG)
    about = output_of("capinfos", path)
    assert "höchstpersönlich" in about
    assert "Name = labkit0" in about
    assert "Capture application: labkit" in about
    assert fields(path, "frame.interface_name") == [["labkit0"]] * len(FRAMES)


def test_a_key_log_that_is_written_decrypts_in_tshark(tmp_path: Path, shared_captures: Path) -> None:
    keylog = (shared_captures / "illustrated-tls13_keylog.txt").read_text()
    frames = pcap.read(shared_captures / "illustrated-tls13_capture.pcap").frames
    bare, keyed = tmp_path / "bare.pcapng", tmp_path / "keyed.pcapng"
    pcap_writer.write(bare, frames)
    pcap_writer.write(keyed, frames, keylog=keylog)
    assert not any(row[0] for row in fields(bare, "tls.handshake.certificate"))
    assert any(row[0] for row in fields(keyed, "tls.handshake.certificate"))


def test_a_key_log_that_editcap_put_in(tmp_path: Path) -> None:
    pcap_writer.write(tmp_path / "a.pcap", FRAMES)
    (tmp_path / "keys").write_text(KEYLOG)
    output_of("editcap", "--inject-secrets", f"tls,{tmp_path}/keys", tmp_path / "a.pcap", tmp_path / "b.pcapng")
    file = pcap.read(tmp_path / "b.pcapng")
    assert file.keylog == KEYLOG
    assert list(file.frames) == FRAMES


def test_links_of_several_kinds(tmp_path: Path) -> None:
    frames = [FRAMES[0], Frame(TIME, FRAMES[1].data[14:], FRAMES[1].length - 14, 101), FRAMES[2]]
    pcap_writer.write(tmp_path / "a.pcapng", frames)
    read = pcap.read(tmp_path / "a.pcapng").frames
    assert list(read) == frames
    assert reassemble(read) == reassemble(frames)
    assert len(reassemble(read)) == 1
    with pytest.raises(BadCapture, match="pcapng"):
        pcap_writer.write(tmp_path / "a.pcap", frames)


class Blocks:
    """Builds a pcapng block by block, in either byte order."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.data = b""

    def pack(self, layout: str, *values: int) -> bytes:
        return struct.pack(self.order + layout, *values)

    def block(self, kind: int, body: bytes) -> "Blocks":
        body += bytes(-len(body) % 4)
        length = self.pack("I", len(body) + 12)
        self.data += self.pack("I", kind) + length + body + length
        return self

    def option(self, code: int, value: bytes) -> bytes:
        return self.pack("HH", code, len(value)) + value + bytes(-len(value) % 4)

    def section(self, options: bytes = b"") -> "Blocks":
        return self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, 1, 0, -1) + options)

    def interface(self, options: bytes = b"", link: int = 1, snap: int = 0) -> "Blocks":
        return self.block(1, self.pack("HHI", link, 0, snap) + options)

    def packet(self, ticks: int, data: bytes, interface: int = 0, options: bytes = b"") -> "Blocks":
        head = self.pack("5I", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        return self.block(6, head + data + bytes(-len(data) % 4) + options)


def everything(order: str) -> bytes:
    """A pcapng with every block and option that matters."""
    file = Blocks(order)
    data = FRAMES[0].data
    end = file.option(0, b"")
    file.section(file.option(1, b"first section") + end)
    file.interface(file.option(2, b"nano") + file.option(9, b"\x09") + end)
    file.interface(file.option(2, b"binary") + file.option(9, b"\x94") + end)  # 2**-20 seconds
    file.interface(file.option(14, file.pack("q", 1_000_000)) + end)  # microseconds, and a million seconds to add
    file.packet(TIME, data)
    file.packet((TIME // NS) << 20 | 1 << 19, data, 1, file.option(1, b"half a second") + end)
    file.packet((TIME // NS - 1_000_000) * 1_000_000 + 250_000, data, 2)
    file.block(
        2, file.pack("HHIIII", 0, 7, TIME >> 32, TIME & 0xFFFFFFFF, 50, 60) + data[:50]
    )  # the obsolete packet block
    file.block(3, file.pack("I", len(data)) + data)
    file.block(4, file.pack("HH", 1, 18) + bytes([192, 0, 2, 25]) + b"mail.example\0\0" + bytes(2) + end)
    file.block(0xBAD, file.pack("I", 32473) + b"custom")
    file.block(0x40000BAD, file.pack("I", 32473) + b"custom, do not copy")
    file.block(0x7777, b"nobody knows this")
    file.block(10, file.pack("II", 0x544C534B, len(KEYLOG)) + KEYLOG.encode())
    file.block(10, file.pack("II", 0x57474B4C, 4) + b"wg\r\n")  # another kind of secret
    file.block(
        5, file.pack("III", 0, 0, 0) + file.option(4, file.pack("Q", 9)) + file.option(5, file.pack("Q", 3)) + end
    )
    file.interface(file.option(2, b"late") + end, link=101).packet(TIME // 1000, data[14:], 3)
    other = Blocks("<" if order == ">" else ">")  # a section of its own byte order, with its own interfaces
    other.section(other.option(1, b"second section") + end).interface(link=101).packet(TIME // 1000, data[14:])
    return file.data + other.data


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_block_and_option(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.pcapng"
    path.write_bytes(everything(order))
    file = pcap.read(path)
    data, second = FRAMES[0].data, TIME // NS * NS
    assert list(file.frames) == [
        Frame(TIME, data, len(data)),
        Frame(second + NS // 2, data, len(data)),
        Frame(second + NS // 4, data, len(data)),
        Frame(TIME, data[:50], 60),
        Frame(0, data, len(data)),
        *[Frame(TIME // 1000 * 1000, data[14:], len(data) - 14, 101)] * 2,
    ]
    assert file.keylog == KEYLOG
    assert file.comment == "first section\nsecond section"
    (note,) = file.notes
    assert "lost packets on interface nano: 3" in note


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_block_and_option_is_what_tshark_reads(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.pcapng"
    path.write_bytes(everything(order))
    frames = pcap.read(path).frames
    # tshark shows custom blocks in its list of packets, too
    seen = fields(path, "frame.time_epoch", "frame.cap_len", "frame.len", "frame.comment", options=("-Y", "eth or raw"))
    assert len(seen) == len(frames)
    for frame, (time, size, length, *_comment) in zip(frames, seen, strict=True):
        assert (int(size), int(length)) == (len(frame.data), frame.length)
        assert frame.time == (exact(time) if time else 0)
    assert seen[1][3] == "half a second"


def test_files_that_mergecap_joins(tmp_path: Path) -> None:
    pcap_writer.write(tmp_path / "a.pcap", FRAMES[:2])
    pcap_writer.write(tmp_path / "b.pcapng", FRAMES[2:])
    output_of("mergecap", "-a", "-w", tmp_path / "c.pcapng", tmp_path / "a.pcap", tmp_path / "b.pcapng")
    assert list(pcap.read(tmp_path / "c.pcapng").frames) == FRAMES


def test_a_simple_packet_is_cut_at_the_snap_length(tmp_path: Path) -> None:
    file = Blocks("<").section().interface(snap=20)
    file.block(3, file.pack("I", 54) + FRAMES[0].data[:20])
    assert list(pcap.parse(Path("a"), file.data).frames) == [Frame(0, FRAMES[0].data[:20], 54)]


# gzip


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
def test_gzipped(tmp_path: Path, suffix: str) -> None:
    pcap_writer.write(tmp_path / f"a{suffix}", FRAMES)
    packed = gzip.compress((tmp_path / f"a{suffix}").read_bytes())
    (tmp_path / "a.gz").write_bytes(packed)
    assert list(pcap.read(tmp_path / "a.gz").frames) == FRAMES
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) * 3 // 4])
    cut = pcap.read(tmp_path / "cut.gz")
    assert list(cut.frames) == FRAMES[: len(cut.frames)]
    assert "gzip data is cut or damaged" in cut.notes[0]
    assert len(cut.frames) > 0


def test_gzip_in_several_members_with_padding(tmp_path: Path) -> None:
    pcap_writer.write(tmp_path / "a.pcap", FRAMES)
    content = (tmp_path / "a.pcap").read_bytes()
    (tmp_path / "a.gz").write_bytes(
        gzip.compress(content[:99]) + bytes(5) + gzip.compress(content[99:]) + bytes(200_000)
    )
    file = pcap.read(tmp_path / "a.gz")
    assert (list(file.frames), file.notes) == (FRAMES, ())


def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "LARGEST_UNPACKED", 4 << 20)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for _piece in range(64):
            file.write(bytes(1 << 20))
    (tmp_path / "bomb.pcap.gz").write_bytes(packed.getvalue())
    with pytest.raises(BadCapture, match=r"bomb\.pcap\.gz unpacks to more than 4 MiB"):
        pcap.read(tmp_path / "bomb.pcap.gz")


def test_a_million_empty_packets_in_a_few_octets_are_not_unpacked(tmp_path: Path) -> None:
    pcap_writer.write(tmp_path / "few.pcap", [])
    header = (tmp_path / "few.pcap").read_bytes()
    (tmp_path / "few.pcap.gz").write_bytes(gzip.compress(header + bytes(16) * 1000))
    (tmp_path / "many.pcap.gz").write_bytes(gzip.compress(header + bytes(16) * 1_000_000))
    assert len(pcap.read(tmp_path / "few.pcap.gz").frames) == 1000
    with pytest.raises(BadCapture, match=r"many\.pcap\.gz unpacks to more than 8 MiB"):
        pcap.read(tmp_path / "many.pcap.gz")


def test_gzip_of_nothing_useful(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b\x08\x00 garbage")
    with pytest.raises(BadCapture, match="damaged at its start"):
        pcap.read(tmp_path / "a.gz")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"plain text"))
    with pytest.raises(BadCapture, match="not a capture"):
        pcap.read(tmp_path / "b.gz")


def test_a_large_file_is_mapped_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [*FRAMES[:3], *(segment(sequence=1001 + at * 700, data=b"%0700d" % at) for at in range(4000))]
    for name in ("a.pcap", "a.pcapng"):
        pcap_writer.write(tmp_path / name, frames)
        whole = reassemble(pcap.read(tmp_path / name).frames)
        (tmp_path / "a.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes(), 1))
        with monkeypatch.context() as patch:
            patch.setattr(pcap, "READ_WHOLE", 1000)
            for path in (tmp_path / name, tmp_path / "a.gz"):
                file = pcap.read(path)
                assert reassemble(file.frames) == whole
                assert list(file.frames) == frames
    assert len(whole[0].client_stream.data) == 4000 * 700


# damage


def test_a_file_cut_in_mid_packet_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    for suffix, head in ((".pcap", 24), (".pcapng", 0)):
        path = tmp_path / f"a{suffix}"
        pcap_writer.write(path, FRAMES)
        content = path.read_bytes()
        for size in range(head + 4, len(content)):
            file = pcap.parse(path, content[:size])
            assert list(file.frames) == FRAMES[: len(file.frames)]
            again = pcap.parse(path, content[:size] + b"")
            assert again.notes == file.notes
            assert len(file.notes) <= 1
            for note in file.notes:
                assert f"a{suffix} ends in the middle of what begins at offset" in note
                assert note.endswith(f"Packets before it, all read: {len(file.frames)}.")
            reassemble(file.frames)
        assert pcap.parse(path, content[:-1]).notes


def test_damage_after_the_first_packet_is_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    pcap_writer.write(path, FRAMES)
    content = path.read_bytes()
    second = 24 + 16 + len(FRAMES[0].data)
    damaged = content[: second + 8] + b"\xff\xff\xff\x7f" + content[second + 12 :]
    file = pcap.parse(path, damaged)
    assert list(file.frames) == FRAMES[:1]
    assert f"a.pcap: offset {second} should hold the header of a packet" in file.notes[0]
    with pytest.raises(BadCapture, match=r"a\.pcap cannot be read: offset 24 should hold"):
        pcap.parse(path, content[:32] + b"\xff\xff\xff\x7f" + content[36:])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a capture: offset 0 should hold the magic number"),
        (b"Hello, world, this is text", "holds 48 65 6c 6c"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "offset 0 should hold a pcap file header of 24 octets"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 105), "link of type 105"),
        (Blocks("<").section().interface(link=105).packet(0, b"x").data, "link of type 105"),
        (Blocks("<").section().packet(0, b"x").data, "interface described before it; number 0 is not"),
        (Blocks("<").section().block(3, bytes(8)).data, "a simple packet block after the description of its interface"),
        (Blocks("<").section().data[:8] + b"\0" * 20, "offset 8 should hold a section's byte-order magic"),
        (
            Blocks("<").section().data + struct.pack("<II", 6, 13) + bytes(8),
            "offset 32 should hold the length of a block",
        ),
        (Blocks("<").section().data[:-4] + bytes(4), "offset 24 should hold the block's length again, 28"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "strange.pcap"
    path.write_bytes(content)
    with pytest.raises(BadCapture) as error:
        pcap.read(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_packets_of_a_foreign_link_are_left_out_with_a_note(tmp_path: Path) -> None:
    file = Blocks("<").section().interface().interface(link=105).packet(0, FRAMES[0].data).packet(0, b"radio", 1)
    read = pcap.parse(Path("a.pcapng"), file.data)
    assert "links of type 105 are not read" in read.notes[0]
    assert len(read.frames) == 2
    assert len(reassemble(read.frames)) == 1


def test_files_that_are_not_there_or_are_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pcap", tmp_path, tmp_path / "missing" / "a.pcap"):
        with pytest.raises(BadCapture, match="cannot be read"):
            pcap.read(path)


def test_too_large_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.pcap"
    with path.open("wb") as file:
        file.truncate(pcap.LARGEST_FILE + 1)  # a sparse file: it takes no room
    with pytest.raises(BadCapture, match="larger than the 2048 MiB"):
        pcap.read(path)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    for path in (tmp_path / "a.txt", tmp_path / "missing" / "a.pcap"):
        with pytest.raises(BadCapture, match="cannot be saved"):
            pcap_writer.write(path, FRAMES)
    (tmp_path / "a.pcap").mkdir()
    with pytest.raises(BadCapture, match="cannot be saved"):
        pcap_writer.write(tmp_path / "a.pcap", FRAMES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pcap"]


@pytest.mark.parametrize(
    ("options", "ticks"),
    [
        ((14, struct.pack("<q", -100)), 0),  # if_tsoffset: seconds to add
        ((14, struct.pack("<q", -(2**62))), 0),
        ((14, struct.pack("<q", 2**62)), 0),
        ((9, b"\0"), 0xFFFFFFFF << 32),  # if_tsresol: whole seconds
    ],
)
@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_times_that_no_file_holds_are_one_sentence(
    tmp_path: Path, options: tuple[int, bytes], ticks: int, suffix: str
) -> None:
    blocks = Blocks("<").section()
    blocks.interface(blocks.option(*options)).packet(0 if ticks else 1, b"x" * 60).packet(ticks, b"x" * 60)
    (tmp_path / "odd.pcapng").write_bytes(blocks.data)
    frames = pcap.read(tmp_path / "odd.pcapng").frames
    number = 2 if ticks else 1
    with pytest.raises(BadCapture, match=f"cannot be saved: packet {number} has a time outside 1970 to .*editcap -t"):
        pcap_writer.write(tmp_path / f"saved.{suffix}", frames)
    assert [path.name for path in tmp_path.iterdir()] == ["odd.pcapng"]


def test_pcap_ends_in_2106_and_pcapng_in_2554(tmp_path: Path) -> None:
    last = {"pcap": 2**32 * NS - 1, "pcapng": 2**64 - 1}
    for suffix, time in last.items():
        path = tmp_path / f"a.{suffix}"
        pcap_writer.write(path, [Frame(0, b"x" * 60, 60), Frame(time, b"x" * 60, 60)])
        assert [frame.time for frame in pcap.read(path).frames] == [0, time]
        with pytest.raises(BadCapture, match="packet 1 has a time outside"):
            pcap_writer.write(path, [Frame(time + 1, b"x" * 60, 60)])


def test_a_capture_can_be_saved_over_the_file_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pcap"
    pcap_writer.write(path, FRAMES)
    monkeypatch.setattr(pcap, "READ_WHOLE", 10)
    pcap_writer.write(path, pcap.read(path).frames[:2])
    assert list(pcap.read(path).frames) == FRAMES[:2]


# hostile files: only BadCapture may come out


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["<", ">"]), st.booleans())
def test_mutated_files_are_read_or_refused(seed: int, order: str, as_pcap: bool) -> None:
    chance = random.Random(seed)  # noqa: S311
    if as_pcap:
        head = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, chance.choice([0, 1, 101, 113, 276]))
        content = bytearray(head)
        for frame in FRAMES * 3:
            content += struct.pack(order + "4I", 0, 0, len(frame.data), frame.length) + frame.data
    else:
        content = bytearray(everything(order))
    for _mutation in range(chance.randint(1, 12)):
        place = chance.randrange(len(content))
        match chance.randrange(4):
            case 0:
                content[place] = chance.randrange(256)
            case 1:
                content[place] ^= 1 << chance.randrange(8)
            case 2:
                del content[place : place + chance.randrange(1, 9)]
            case _:
                content[place:place] = chance.randbytes(chance.randrange(1, 9))
    try:
        frames = pcap.parse(Path("hostile"), bytes(content)).frames
    except BadCapture:
        return
    in_place, general = reassemble(frames), reassemble(list(frames))
    assert in_place == general
    assert all(flow.bursts is not None and len(flow.packets) for flow in in_place)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.binary(max_size=120), max_size=8), st.sampled_from([0, 1, 12, 14, 101, 108, 113, 228, 229, 276]))
def test_frames_of_garbage_are_passed_over(contents: list[bytes], link: int) -> None:
    ip = bytes.fromhex("450000280001000040060000c0000219c6336407")
    frames = [Frame(0, head + data, 0, link) for data in contents for head in (b"", ip, bytes(12) + b"\x08\0" + ip)]
    for flow in reassemble(frames):
        assert len(flow.client_stream.data) + len(flow.server_stream.data) <= sum(len(frame.data) for frame in frames)
