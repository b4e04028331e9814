"""Postfix and Dovecot, as temporary instances of their own on loopback: what the lab's clients and probe are tried against.

Dovecot holds the accounts, serves POP3 and POP3S, and answers Postfix's question whether a login is right. Postfix takes
mail on a submission port with STARTTLS and on one with TLS from the first byte, and stores it where Dovecot finds it. All
their files are in one folder in /tmp, all their ports are free ones, and no other host is ever spoken to. Both have to be
started as root: they give every process a user of its own.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labkit.mail.accounts import DOMAIN
from labkit.mail.certificates import Certificate, authority
from labkit.mail.client import MailClient
from labkit.mail.policy import Security
from labkit.mail.sample import LESSON_ACCOUNTS
from labkit.mail.settings import Settings
from tests.conftest import require

PATIENCE = 60.0  # seconds for a server to start or stop
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_OWNER = "nobody"  # of the stored mail

_DOVECOT_CONF = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = pop3
listen = {host}
ssl = {ssl}
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/server.pem
auth_mechanisms = plain login cram-md5 scram-sha-256 apop
mail_location = maildir:{folder}/mail/%n
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%n
}}
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  inet_listener {{
    address = {host}
    port = {auth_port}
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3_port}
  }}
  inet_listener pop3s {{
    port = {pop3s_port}
    ssl = yes
  }}
}}
"""

_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = {domain}
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
default_transport = error:nothing leaves this machine
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_chain_files = {folder}/server.pem
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:{host}:{auth_port}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_delay_reject = no
smtpd_sender_restrictions = permit_sasl_authenticated, reject
"""

_MASTER_CF = """\
{host}:{smtp_port} inet n - n - - smtpd
  -o smtpd_tls_security_level={level}
  -o smtpd_sasl_auth_enable=yes
{host}:{smtps_port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
error unix - - n - - error
virtual unix - n n - - virtual
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class MailServers:
    """Where they listen, who may log in, and what to trust."""

    folder: Path
    host: str
    smtp_port: int
    smtps_port: int
    pop3_port: int
    pop3s_port: int

    def ports(self, security: Security) -> tuple[int, int]:
        """The SMTP and POP3 ports with a security."""
        ssl_ports, clear_ports = (self.smtps_port, self.pop3s_port), (self.smtp_port, self.pop3_port)
        return ssl_ports if security is Security.SSL else clear_ports

    def client(self, name: str, security: Security, **overrides: Any) -> MailClient:
        """A mail program set up for one of the lesson accounts."""
        account = {account.local_part: account for account in LESSON_ACCOUNTS}[name]
        smtp_port, pop3_port = self.ports(security)
        right: dict[str, Any] = {
            "smtp_port": smtp_port,
            "pop3_port": pop3_port,
            "server": "localhost",
            "connect_to": self.host,
            "security": security,
            "login": account.local_part,
            "password": account.password,
            "outgoing_requires_authentication": True,
            "trusted_ca": None if security is Security.NONE else authority().ca_pem.decode(),
        }
        return MailClient(Settings(**(right | overrides)))

    def delivered(self, name: str) -> list[bytes]:
        """The messages in an account's maildrop, waiting until there is one."""
        wait_for(lambda: any((self.folder / "mail" / name / "new").glob("*")), f"mail for {name}", self.folder)
        return [path.read_bytes() for path in (self.folder / "mail" / name / "new").iterdir()]

    def empty(self) -> None:
        """Throw all mail away."""
        for path in (self.folder / "mail").glob("*/*/*"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def running_servers(*, strict: bool = False, certificate: Certificate = Certificate.GOOD) -> Iterator[MailServers]:
    """Both servers, started and stopped. strict: nobody may log in without TLS."""
    _required()
    # Not pytest's tmp_path: the servers' own users have to enter it, and a path of a Unix socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="labkit-peers-"))
    folder.chmod(0o755)
    try:
        with contextlib.ExitStack() as running:
            # Dovecot takes a client for safe that has the server's own address: a strict one needs another address.
            host = "127.0.0.2" if strict else "127.0.0.1"
            *ports, auth_port = _free_ports(5, host)
            servers = MailServers(folder, host, *ports)
            _furnish(servers, auth_port, strict, certificate)
            running.enter_context(_dovecot(servers, auth_port))
            running.enter_context(_postfix(servers))
            yield servers
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def why_not() -> str:
    """Why they cannot run here; empty where they can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "Postfix and Dovecot start as root only"
    missing = [name for name in ("postfix", "dovecot") if not shutil.which(name, path=_PATH)]
    return f"not installed: {', '.join(missing)}" if missing else ""


def _required() -> None:
    """Skip the test where they cannot run."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip(why_not())
    require("postfix", "dovecot")


def wait_for(ready: Callable[[], bool], what: str, folder: Path) -> None:
    """Until `ready()`; fails with the servers' own logs."""
    ends = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > ends:
            logs = "\n".join(path.read_text(errors="replace") for path in folder.glob("*.log"))
            pytest.fail(f"waited in vain for {what}\n{logs}")
        time.sleep(0.01)


def _free_ports(count: int, host: str) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((host, 0))
        return [sock.getsockname()[1] for sock in sockets]


def _furnish(servers: MailServers, auth_port: int, strict: bool, certificate: Certificate) -> None:
    """Everything that the two read: configuration, certificate, accounts."""
    import pwd  # not on Windows

    folder, owner = servers.folder, pwd.getpwnam(_OWNER)
    names = [account.local_part for account in LESSON_ACCOUNTS]
    values = {
        "folder": folder,
        "host": servers.host,
        "domain": DOMAIN,
        "uid": owner.pw_uid,
        "gid": owner.pw_gid,
        "auth_port": auth_port,
        "level": "encrypt" if strict else "may",
        "ssl": "required" if strict else "yes",
        "mailboxes": ", ".join(f"{{ {name}@{DOMAIN} = {name}/ }}" for name in names),
        "smtp_port": servers.smtp_port,
        "smtps_port": servers.smtps_port,
        "pop3_port": servers.pop3_port,
        "pop3s_port": servers.pop3s_port,
    }
    for name in ("mail", "data", "queue", "postfix"):
        (folder / name).mkdir()
    os.chown(folder / "mail", owner.pw_uid, owner.pw_gid)
    os.chown(folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
    pem = folder / "server.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(authority().key_and_chain(certificate))
    users = "".join(f"{account.local_part}:{{PLAIN}}{account.password}\n" for account in LESSON_ACCOUNTS)
    (folder / "users").write_text(users, encoding="ascii")
    (folder / "dovecot.conf").write_text(_DOVECOT_CONF.format(**values), encoding="ascii")
    (folder / "postfix" / "main.cf").write_text(_MAIN_CF.format(**values), encoding="ascii")
    (folder / "postfix" / "master.cf").write_text(_MASTER_CF.format(**values), encoding="ascii")


@contextlib.contextmanager
def _dovecot(servers: MailServers, auth_port: int) -> Iterator[None]:
    command = ["dovecot", "-F", "-c", str(servers.folder / "dovecot.conf")]
    with _process(command, servers, servers.pop3_port, servers.pop3s_port, auth_port):
        yield


@contextlib.contextmanager
def _postfix(servers: MailServers) -> Iterator[None]:
    configuration = str(servers.folder / "postfix")
    _run("postfix", "-c", configuration, "check")  # makes the queue's folders
    master = _run("postconf", "-c", configuration, "-h", "daemon_directory").strip() + "/master"
    with _process([master, "-c", configuration, "-d"], servers, servers.smtp_port, servers.smtps_port):
        yield


def _run(*command: str) -> str:
    done = subprocess.run(command, env={"PATH": _PATH}, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def _process(command: list[str], servers: MailServers, *ports: int) -> Iterator[None]:
    """A server in the foreground, from when its ports answer until it has ended."""
    with (servers.folder / f"{Path(command[0]).name}.log").open("wb") as said:
        server = subprocess.Popen(
            command, env={"PATH": _PATH}, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        wait_for(
            lambda: server.poll() is not None or all(_listens(servers.host, port) for port in ports),
            command[0],
            servers.folder,
        )
        if server.poll() is not None:
            wait_for(lambda: False, f"{command[0]}, which has ended with {server.returncode}", servers.folder)
        yield
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False
