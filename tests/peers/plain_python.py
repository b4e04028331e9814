"""What somebody types who uses Python's own mail modules: one message sent, or every message fetched.

A script of its own, so that any Python can run it without labkit. Errors are not caught: a script like this one ends with
Python's exit code 1 and the exception's name. Arguments: module, host, port, security, way to log in (or "-"), login,
password, CA file, then for sending sender, recipient and the message's file, for reading the folder to write to.
"""

import asyncio
import poplib
import smtplib
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

sys.tracebacklimit = 0

Tls = ssl.SSLContext | None


def main() -> None:
    """Do what the arguments say."""
    module, host, port, security, way, login, password, ca, *rest = sys.argv[1:]
    context = None if security == "none" else ssl.create_default_context(cafile=ca)
    connection = host, int(port), context if security == "ssl" else None, context if security == "starttls" else None
    task: Callable[..., None] = {"smtplib": send, "aiosmtplib": send_async, "poplib": read}[module]
    task(*connection, way, login, password, *rest)


def send(
    host: str,
    port: int,
    implicit: Tls,
    upgrade: Tls,
    way: str,
    login: str,
    password: str,
    sender: str,
    recipient: str,
    message: str,
) -> None:
    """With smtplib. It sends octets as they are: line ends are the script's to mend."""
    content = Path(message).read_bytes().replace(b"\n", b"\r\n")
    kind = {"context": implicit} if implicit else {}
    with (smtplib.SMTP_SSL if implicit else smtplib.SMTP)(host, port, "client.example", timeout=20, **kind) as smtp:
        if upgrade:
            smtp.starttls(context=upgrade)
        smtp.ehlo_or_helo_if_needed()
        if way != "-":
            if smtp.has_extn("auth"):
                smtp.esmtp_features["auth"] = way  # `login` has no other way to be told which mechanism
            smtp.login(login, password)
        smtp.sendmail(sender, [recipient], content)


def send_async(
    host: str,
    port: int,
    implicit: Tls,
    upgrade: Tls,
    way: str,
    login: str,
    password: str,
    sender: str,
    recipient: str,
    message: str,
) -> None:
    """With aiosmtplib, from outside the standard library."""
    import aiosmtplib

    content = Path(message).read_bytes()
    smtp = aiosmtplib.SMTP(
        hostname=host, port=port, local_hostname="client.example", timeout=20,
        use_tls=implicit is not None, start_tls=upgrade is not None, tls_context=implicit or upgrade,
    )  # fmt: skip

    async def run() -> None:
        async with smtp:
            if way != "-":
                await smtp.ehlo()
                smtp.server_auth_methods = [name for name in smtp.server_auth_methods if name == way.lower()]
                await smtp.login(login, password)
            await smtp.sendmail(sender, [recipient], content)

    asyncio.run(run())


def read(host: str, port: int, implicit: Tls, upgrade: Tls, way: str, login: str, password: str, folder: str) -> None:
    """With poplib: every message into a file of its own, in the order of the maildrop."""
    kind = {"context": implicit} if implicit else {}
    pop = (poplib.POP3_SSL if implicit else poplib.POP3)(host, port, timeout=20, **kind)
    try:
        if upgrade:
            pop.stls(context=upgrade)
        if way == "APOP":
            pop.apop(login, password)
        else:
            pop.user(login)
            pop.pass_(password)
        for number in range(1, pop.stat()[0] + 1):
            lines = pop.retr(number)[1]
            Path(folder, f"{number}.eml").write_bytes(b"".join(line + b"\r\n" for line in lines))
        pop.quit()
    finally:
        pop.close()


if __name__ == "__main__":
    main()
