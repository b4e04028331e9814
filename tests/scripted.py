"""A server that plays a part, line by line, whatever it hears."""

import asyncio
from collections.abc import Iterable


class Scripted(asyncio.Protocol):
    """Says its parts: the first at once, then one for each line it hears. stay: do not close after the last."""

    def __init__(self, parts: Iterable[bytes], *, stay: bool = False) -> None:
        self._parts, self._stay = iter(parts), stay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._say()

    def data_received(self, data: bytes) -> None:
        for _line in data.splitlines():
            self._say()

    def _say(self) -> None:
        said = next(self._parts, None)
        if said is not None:
            self._transport.write(said)
        elif not self._stay:
            self._transport.close()
