"""Kernels for the tests: they are met at socket files in a private folder.

Over TCP a kernel takes five ports that were free when they were chosen; beside tests that open thousands of connections,
one of them is gone now and then before the kernel starts. Windows has no such sockets, and keeps to TCP.
"""

import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

from jupyter_client.connect import ConnectionFileMixin
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets import default

FOLDER = tempfile.TemporaryDirectory(prefix="kernels-")


class _AtSocketFiles(ConnectionFileMixin):
    @default("transport")
    def _files_where_there_are_any(self) -> str:
        return "ipc" if os.name == "posix" else "tcp"

    @default("connection_file")
    def _a_file_of_its_own(self) -> str:
        return str(Path(FOLDER.name) / f"{uuid.uuid4().hex[:12]}.json")


class Kernels(_AtSocketFiles, KernelManager):
    """For nbval. What records the packets is the tap where nothing else is named."""

    def start_kernel(self, **options: Any) -> None:
        environment = {"LABKIT_CAPTURE": "tap"} | os.environ
        super().start_kernel(env=environment, **options)


class AsyncKernels(_AtSocketFiles, AsyncKernelManager):
    """For nbclient."""


def client(notebook: NotebookNode, folder: Path) -> NotebookClient:
    """Runs a notebook's cells in `folder`, and leaves nothing personal in its metadata."""
    return NotebookClient(
        notebook,
        timeout=60,
        record_timing=False,
        store_widget_state=False,
        kernel_manager_class=AsyncKernels,
        resources={"metadata": {"path": folder}},
    )
