"""The course's own message and accounts, fixed to the byte so that every output repeats.

The message has what leaks in different ways: a subject, a text in English and Japanese (UTF-8, sent as it is), and a small
PNG in base64. The accounts' passwords are invented and simple on purpose: a simple password is what falls to guessing.
"""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

from labkit.mail.accounts import DOMAIN, Account

LESSON_ACCOUNTS = (
    Account(f"hanako@{DOMAIN}", "Hanako Yamada", "sakura", "m1001-hy"),
    Account(f"taro@{DOMAIN}", "Taro Suzuki", "fuji3776", "m1002-ts"),
)

_MESSAGE = """\
From: {sender_name} <{sender}>
To: {recipient_name} <{recipient}>
Subject: Lunch on Friday?
Date: Wed, 01 Jul 2026 12:00:00 +0900
Message-ID: <lunch-1@mail.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_lunch"

--=_lunch
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: 8bit

Noon at the station? The map is attached.
正午に駅前でどうですか。地図を付けました。

--=_lunch
Content-Type: image/png
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="map.png"

iVBORw0KGgoAAAANSUhEUgAAACAAAAAgAgMAAAAOFJJnAAAADFBMVEX39Oy0ucSPyY/EPQ8n
c8/gAAAASklEQVR42mNgYAhlgAKcDK4F+BkHoAz+P1CG/X8ow4YfyvjDfwBNBK4GrAtkF/MH
dAbYZDgjFASuhoZCGKFYGTh8wbRqAfEMZO0ADiYtUGsRme8AAAAASUVORK5CYII=
--=_lunch--
"""


def sample_message(sender: Account = LESSON_ACCOUNTS[0], recipient: Account | None = None) -> EmailMessage:
    """The course's message, from one account to another (taro, or hanako when taro writes)."""
    hanako, taro = LESSON_ACCOUNTS
    to = recipient or (hanako if sender.address == taro.address else taro)
    text = _MESSAGE.format(
        sender=sender.address, sender_name=sender.full_name, recipient=to.address, recipient_name=to.full_name
    )
    message = message_from_bytes(text.replace("\n", "\r\n").encode(), policy=SMTP)
    assert isinstance(message, EmailMessage)  # noqa: S101 - the SMTP policy makes nothing else
    return message
