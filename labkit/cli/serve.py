"""labkit serve: a provider for any mail program on this machine."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import click

import labkit
from labkit.cli.base import styles
from labkit.cli.terminal import say
from labkit.texts import _


def _how_to_set_up(provider: labkit.Provider) -> str:
    """What to type into a mail program."""
    policy = provider.policy
    security = {"none": _("none"), "starttls": "STARTTLS", "ssl": "SSL/TLS"}[policy.security.value]
    rows = [
        _("A mail provider is running on this machine, policy {policy}.").format(policy=policy.name),
        "",
        _("  server           {host} for both").format(host=provider.host),
        _("  outgoing (SMTP)  port {port}, connection security {security}").format(
            port=provider.smtp_port, security=security
        ),
        _("  incoming (POP3)  port {port}, connection security {security}").format(
            port=provider.pop3_port, security=security
        ),
        _("  my outgoing server requires authentication: {answer}").format(
            answer=_("yes") if policy.auth_required else _("no")
        ),
    ]
    if policy.pop_window is not None:
        minutes = policy.pop_window.total_seconds() / 60
        rows.append(_("  check mail before sending: yes, it is good for {minutes:g} minutes").format(minutes=minutes))
    if provider.ca_file is not None:
        rows.append(_("  trust this certificate authority: {path}").format(path=provider.ca_file))
    rows.append("")
    rows += [
        _("  {address}  login name {login}  password {password}").format(
            address=account.address, login=account.login, password=account.password
        )
        for account in provider.accounts.values()
    ]
    return "\n".join([*rows, "", _("Stop it with Ctrl-C.")])


def _for_scripts(provider: labkit.Provider) -> str:
    return json.dumps(
        {
            "host": provider.host,
            "smtp_port": provider.smtp_port,
            "pop3_port": provider.pop3_port,
            "policy": provider.policy.name,
            "ca": None if provider.ca_file is None else str(provider.ca_file),
            "accounts": [
                {"address": account.address, "login": account.login, "password": account.password}
                for account in provider.accounts.values()
            ],
        },
        ensure_ascii=False,
    )


@click.command()
@click.argument("policy", type=str.lower)
@click.option("--smtp-port", type=click.IntRange(0, 65535), default=0, help="A free one when not given.")
@click.option("--pop3-port", type=click.IntRange(0, 65535), default=0, help="A free one when not given.")
@click.option("--pcap", type=click.Path(path_type=Path, dir_okay=False), help="Save the traffic there when it stops.")
@click.option(
    "--maildir", type=click.Path(path_type=Path, file_okay=False), help="Keep the mail there, one folder an account."
)
@styles("text", "json")
def serve(policy: str, smtp_port: int, pop3_port: int, pcap: Path | None, maildir: Path | None, style: str) -> None:
    """Run a provider under POLICY for any mail program on this machine, and show the dialogue live.

    \b
    Example: labkit serve starttls --smtp-port 2587 --pop3-port 2110 --pcap session.pcapng
    """
    from labkit.cli.follow import Follower, SavedSession
    from labkit.wire.pcap_writer import refuse_unwritable

    if pcap is not None:
        refuse_unwritable(pcap)
    stopped = threading.Event()
    for name in stopping_signals():
        signal.signal(name, lambda *_signal: stopped.set())
    provider = labkit.Provider(policy, smtp_port=smtp_port, pop3_port=pop3_port, maildir=maildir)
    with provider, SavedSession(provider, pcap) as saved:
        follow = Follower(provider, style)
        say(_for_scripts(provider) if style == "json" else _how_to_set_up(provider))
        crowded = False
        while True:
            ends = stopped.wait(0.2)
            follow.print_new()
            saved.limit()
            if provider.turned_away and not crowded:
                crowded = True
                say(_("Too many connections are open: those that come now are closed at once."), error=True)
            if ends:
                break
        follow.stop()


def stopping_signals() -> Iterator[signal.Signals]:
    """The signals that stop a server: Ctrl-C, a supervisor's, a terminal that is closed, unless nohup said to go on."""
    yield from (signal.SIGINT, signal.SIGTERM)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        yield signal.SIGHUP
