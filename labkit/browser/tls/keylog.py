"""The key log: a line for each secret, in NSS format, for whoever is to open what crossed the network."""

import os
from weakref import finalize

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class KeyLogWriter:
    """A file that session keys are appended to, or nothing at all. It stays open when its name is taken away."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        """Raises OSError when it cannot be written."""
        self._file = None if path is None else os.open(path, _FLAGS, 0o600)
        self.close = finalize(self, _close, self._file)

    def write(self, label: str, client_random: bytes, secret: bytes) -> None:
        """Append a line."""
        if self._file is not None:
            os.write(self._file, f"{label} {client_random.hex()} {secret.hex()}\n".encode())


def _close(file: int | None) -> None:
    if file is not None:
        os.close(file)
