"""JupyterHub for a class on one host: every learner has a server, a folder and a copy of the lessons.

    CLASSROOM_PASSWORD=… jupyterhub -f tests/classroom/jupyterhub_config.py

It listens on this machine only, and all learners share the system account that runs it: right for trying it, and for a
class that trusts itself. What to change for other classes is in notebooks/teachers/classroom.md.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import labkit
from labkit.lab import put_lessons

HOMES = Path(os.environ.get("CLASSROOM_HOMES", "classroom")).resolve()


def prepare(spawner):
    """Give a learner the lessons that they do not have yet; what they have written stays."""
    put_lessons(HOMES / spawner.user.name)
    # Where kernels meet their server. Private, and short: the name of a socket may have 107 characters.
    spawner.environment["JUPYTER_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="lab-")


def tidy(spawner):
    """Nothing of a server stays but the learner's folder."""
    shutil.rmtree(spawner.environment.pop("JUPYTER_RUNTIME_DIR", ""), ignore_errors=True)


c = get_config()  # noqa: F821
c.JupyterHub.bind_url = "http://127.0.0.1:8000"

# Who may enter: any name, with the class's password.
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = os.environ["CLASSROOM_PASSWORD"]
c.Authenticator.allow_all = True

# Each learner's server: a process on this host, with a home of its own.
c.JupyterHub.spawner_class = "simple"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.SimpleLocalProcessSpawner.home_dir_template = str(HOMES / "{username}")
c.Spawner.pre_spawn_hook = prepare
c.Spawner.post_stop_hook = tidy
c.Spawner.default_url = "/lab/tree/en"
c.Spawner.start_timeout = c.Spawner.http_timeout = 120  # seconds: a whole class presses the button at once

# Kernels speak through socket files instead of TCP ports: two learners' kernels can never want the same port.
c.Spawner.args = ["--KernelManager.transport=ipc"]

# What `labkit lab` sets too: JupyterLab does not ask for news on the Internet.
c.Spawner.environment = {"JUPYTER_CONFIG_PATH": str(Path(labkit.__file__).parent / "jupyter")}
