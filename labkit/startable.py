"""What runs from `start` to `stop`: a context manager that does both."""

from abc import ABC, abstractmethod
from typing import Self


class Startable(ABC):
    """Whoever says how to start and how to stop."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
