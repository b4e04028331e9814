"""JupyterHub, started as the example configuration says, and a learner's browser reduced to what it sends.

The Hub, its proxy and every server listen on 127.0.0.1. Learners are started through the Hub's API; a lesson's cells go to
a kernel through the proxy and the learner's own server, over the websocket that JupyterLab would use.
"""

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil
from nbformat import NotebookNode
from nbformat.v4 import output_from_msg
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

EXAMPLE = Path(__file__).with_name("jupyterhub_config.py")
PATIENCE = 180  # seconds

# On top of the example: free ports, a service that may act for learners, the capture engine, root where we are root.
TRIAL = """
load_subconfig({example!r})
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub_port}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.JupyterHub.services = [{{"name": "trial", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [
    {{"name": "trial", "services": ["trial"], "scopes": ["admin:users", "admin:servers", "access:servers"]}}
]
c.Spawner.environment = {{**c.Spawner.environment, "LABKIT_CAPTURE": {engine!r}}}
c.Spawner.args = [*c.Spawner.args, *{as_root!r}]
"""


class Hub:
    """A running JupyterHub, and the right to act for its learners."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, token: str) -> None:
        self.process = process
        self.url = url
        self.token = token
        self._client = AsyncHTTPClient(max_clients=200)

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """What the Hub, or a learner's server, answers to a request."""
        request = HTTPRequest(
            self.url + path,
            method,
            headers=self._rights(),
            body=None if method in {"GET", "DELETE"} else json.dumps(body or {}),
            request_timeout=PATIENCE,
        )
        answer = await self._client.fetch(request)
        return json.loads(answer.body) if answer.body else None

    async def open(self, path: str) -> "Channels":
        """A websocket to a learner's server, read all the time, as a browser does: the server wants its pings answered."""
        told: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        request = HTTPRequest(self.url.replace("http", "ws", 1) + path, headers=self._rights())
        return Channels(await websocket_connect(request, on_message_callback=told.put_nowait), told)

    async def start(self, name: str) -> "Learner":
        """A learner logs in: their server runs, and the first kernel of it."""
        await self.ask("POST", f"/hub/api/users/{name}")
        await self.ask("POST", f"/hub/api/users/{name}/server")
        deadline = time.monotonic() + PATIENCE
        while not (await self.ask("GET", f"/hub/api/users/{name}"))["servers"].get("", {}).get("ready"):
            assert time.monotonic() < deadline, f"{name}'s server does not get ready"
            await asyncio.sleep(0.2)
        kernel = await self.ask("POST", f"/user/{name}/api/kernels", {"name": "python3", "path": "en"})
        return Learner(name, await self.open(f"/user/{name}/api/kernels/{kernel['id']}/channels"))

    def memory(self) -> dict[str, "Memory"]:
        """What each learner's processes hold now."""
        servers = {
            child.environ()["JUPYTERHUB_USER"]: child
            for child in psutil.Process(self.process.pid).children()
            if "JUPYTERHUB_USER" in child.environ()
        }
        return {name: Memory.of(server) for name, server in servers.items()}

    def _rights(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}


class Memory(tuple[int, int, int]):
    """Octets: what the server has resident, what its kernel has, and the fair share of both (pages divided by users)."""

    @classmethod
    def of(cls, server: psutil.Process) -> Self:
        """Of a learner's server and all that it started."""
        kernels = server.children(recursive=True)
        resident = [process.memory_info().rss for process in kernels]
        share = sum(process.memory_full_info().pss for process in (server, *kernels))
        return cls((server.memory_info().rss, sum(resident), share))


class Channels(NamedTuple):
    """A websocket, and what it has told so far; None at its end."""

    socket: WebSocketClientConnection
    told: asyncio.Queue[str | bytes | None]


class Learner:
    """Somebody with a notebook open."""

    def __init__(self, name: str, channels: Channels) -> None:
        self.name = name
        self._channels = channels

    async def run(self, source: str) -> list[NotebookNode]:
        """Run a cell; its outputs."""
        asked = uuid.uuid4().hex
        await self._channels.socket.write_message(json.dumps(_execute(asked, source)))
        outputs: list[NotebookNode] = []
        waiting = {"idle", "reply"}
        while waiting:
            message = await asyncio.wait_for(self._channels.told.get(), PATIENCE)
            assert message is not None, f"{self.name}'s kernel is gone"
            told = json.loads(message)
            if told["parent_header"].get("msg_id") != asked:
                continue
            kind = told["header"]["msg_type"]
            if kind == "status" and told["content"]["execution_state"] == "idle":
                waiting.discard("idle")
            elif kind == "execute_reply":
                waiting.discard("reply")
            elif kind in {"stream", "display_data", "execute_result", "error"}:
                outputs.append(output_from_msg(told))
        return outputs


def _execute(asked: str, source: str) -> dict[str, Any]:
    return {
        "header": {"msg_id": asked, "msg_type": "execute_request", "username": "", "session": asked, "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": source, "silent": False, "store_history": True, "allow_stdin": False},
        "buffers": [],
        "channel": "shell",
    }


@asynccontextmanager
async def hub(folder: Path, engine: str) -> AsyncIterator[Hub]:
    """JupyterHub on free ports, with its files and the learners' homes in `folder`."""
    port, hub_port, api_port = _free_ports(3)
    token = secrets.token_hex(16)
    trial = TRIAL.format(
        example=str(EXAMPLE),
        port=port,
        hub_port=hub_port,
        api_port=api_port,
        token=token,
        engine=engine,
        as_root=["--allow-root"] if os.geteuid() == 0 else [],
    )
    with _process(folder, trial) as process:
        running = Hub(process, f"http://127.0.0.1:{port}", token)
        await _ready(running)
        yield running


@contextmanager
def _process(folder: Path, trial: str) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "trial_config.py"
    config.write_text(trial, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG", "IPYTHON"))}
    mine = {"CLASSROOM_PASSWORD": secrets.token_hex(16), "CLASSROOM_HOMES": str(folder / "homes"), "HOME": str(folder)}
    with (folder / "hub.log").open("wb") as log:
        command = [sys.executable, "-m", "jupyterhub", "-f", str(config)]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=kept | mine)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE)


async def _ready(running: Hub) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert running.process.poll() is None, "JupyterHub ended at once"
        assert time.monotonic() < deadline, "JupyterHub does not get ready"
        try:
            await running.ask("GET", "/hub/api/users")
        except Exception:
            await asyncio.sleep(0.2)
        else:
            return


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _number in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
