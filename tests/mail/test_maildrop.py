"""Maildrops: what goes in comes out, uids last, the lock is exclusive, and a killed process tears nothing."""

import mailbox
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.mail.maildrop import MaildirMaildrop, Maildrop, canonical

UID = re.compile(r"[\x21-\x7e]{1,70}")  # RFC 1939 section 7


@pytest.fixture(params=["memory", "maildir"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Maildrop]:
    """Opens the maildrop; for a Maildir, the same one each time."""
    return Maildrop if request.param == "memory" else lambda: MaildirMaildrop(tmp_path / "mail" / "hanako")


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a"]), max_size=12).map(b"".join))
def test_canonical_line_ends(content: bytes) -> None:
    result = canonical(content)
    assert canonical(result) == result
    assert re.fullmatch(rb"(?:[^\r\n]*\r\n)*", result)
    assert result.replace(b"\r\n", b"") == content.replace(b"\r", b"").replace(b"\n", b"")
    lines = re.split(rb"\r\n|\r|\n", content)
    assert result.count(b"\r\n") == len(lines) - (lines[-1] == b"")


def test_messages_come_back_in_order(make: Callable[[], Maildrop]) -> None:
    drop = make()
    contents = [b"%d\r\n" % number for number in range(25)]
    uids = [drop.append(content) for content in contents]
    assert [message.content for message in drop.messages()] == contents
    assert [message.uid for message in drop.messages()] == uids
    assert len(set(uids)) == 25
    assert all(UID.fullmatch(uid) for uid in uids)


@pytest.mark.parametrize("content", [b"", b"\r\n", b".\r\n", b"\0\xff\r\nFrom x\r\n", b"x" * 100_000 + b"\r\n"])
def test_content_is_kept_octet_for_octet(make: Callable[[], Maildrop], content: bytes) -> None:
    drop = make()
    drop.append(content)
    assert [message.content for message in drop.messages()] == [content]


def test_a_uid_is_never_given_twice(make: Callable[[], Maildrop]) -> None:
    drop = make()
    first = drop.append(b"a\r\n")
    drop.delete([first, "unknown"])
    assert drop.messages() == ()
    drop.delete([first])
    assert drop.append(b"a\r\n") != first


def test_the_lock_is_exclusive(make: Callable[[], Maildrop]) -> None:
    drop = make()
    assert drop.acquire()
    assert not drop.acquire()
    drop.append(b"delivered meanwhile\r\n")
    drop.release()
    assert drop.acquire()
    drop.release()
    with pytest.raises(RuntimeError):
        drop.release()


def test_threads_may_read_and_fill_at_once(make: Callable[[], Maildrop]) -> None:
    drop = make()
    threads = [
        threading.Thread(target=lambda: [(drop.append(b"x\r\n"), drop.messages()) for _ in range(15)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({message.uid for message in drop.messages()}) == 60


def test_uids_of_a_maildir_last(tmp_path: Path) -> None:
    path = tmp_path / "hanako"
    before = MaildirMaildrop(path)
    uids = [before.append(b"%d\r\n" % number) for number in range(3)]
    before.delete([uids[1]])
    again = MaildirMaildrop(path)
    assert [message.uid for message in again.messages()] == [uids[0], uids[2]]
    assert again.append(b"new\r\n") not in uids


def test_other_programs_can_share_a_maildir(tmp_path: Path) -> None:
    drop = MaildirMaildrop(tmp_path / "hanako")
    drop.append(b"Subject: ours\r\n\r\nhello\r\n")
    box = mailbox.Maildir(tmp_path / "hanako", factory=None)
    assert [message["Subject"] for message in box] == ["ours"]
    (stored,) = (tmp_path / "hanako" / "new").iterdir()
    assert stored.read_bytes() == f"Subject: ours{os.linesep}{os.linesep}hello{os.linesep}".encode()
    # Delivered by another program, with a long host name, and then marked as seen by a mail reader.
    other = tmp_path / "hanako" / "new" / f"4000000000.M1P1.{'h' * 150}"
    other.write_bytes(b"Subject: theirs\n\nno line end")
    (_, message) = drop.messages()
    assert message.content == b"Subject: theirs\r\n\r\nno line end\r\n"
    assert UID.fullmatch(message.uid)
    other.rename(tmp_path / "hanako" / "cur" / f"{other.name}:2,S")
    assert drop.messages()[1] == message


def test_the_order_of_arrival_is_told_by_numbers_not_by_letters(tmp_path: Path) -> None:
    drop = MaildirMaildrop(tmp_path / "hanako")
    names = ["99.M1P1Q1.h", "100.M9P1Q1.h", "100.M10P1Q9.h", "100.M10P1Q10.h", "1000.M1P1Q1.h", "x"]
    for name in reversed(names):
        (tmp_path / "hanako" / "new" / name).write_text(name + "\n")
    assert [message.content.decode().strip() for message in drop.messages()] == names


KILLED = """
import sys
from pathlib import Path
from labkit.mail.maildrop import MaildirMaildrop
drop = MaildirMaildrop(Path(sys.argv[1]))
while True:
    print(drop.append(b"x" * 70_000 + b"\\r\\n" + b"end\\r\\n"), flush=True)
"""


def test_a_killed_process_tears_no_message(tmp_path: Path) -> None:
    stored = []
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "hanako")], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            stored += [process.stdout.readline().decode().strip() for _ in range(5)]
            process.kill()
            stored += process.stdout.read().decode().split()
    messages = MaildirMaildrop(tmp_path / "hanako").messages()
    assert {message.content for message in messages} == {b"x" * 70_000 + b"\r\nend\r\n"}
    assert {uid for uid in stored if len(uid) == 32} <= {message.uid for message in messages}
