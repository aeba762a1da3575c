"""What runs in the child process: Jupyter Notebook without the user's configuration, tied to the lesson's end."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.paths import jupyter_config_dir
from tornado.httpserver import HTTPServer
from traitlets.config import Config

KERNEL_SECONDS = 0.5  # for a kernel that computes, from the word that it must end to its end by force
SECONDS_TO_END = 4  # for all
NEED_LAB = ("@jupyter-notebook/lab-extension:interface-switcher", "@jupyterlab/lsp-extension")


class ThisPython(KernelSpecManager):
    """Knows one kernel: the Python that runs this.

    Otherwise any kernel named python3 in the user's home or in JUPYTER_PATH may come first, and it may be a Python
    without stepfit.
    """

    def _kernel_dirs_default(self) -> list[str]:
        return []


def main(port: int, folder: str) -> None:
    """Be Jupyter, until the other end of standard input closes."""
    lifeline, listens = os.dup(0), os.dup(1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)  # Jupyter and its kernels must not read the lifeline,
    os.dup2(2, 1)  # nor write where only one line is read
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    _leave_configuration_aside()
    try:
        _run(port, folder, listens)
    finally:
        shutil.rmtree(jupyter_config_dir(), ignore_errors=True)  # empty, and of this process alone


def _run(port: int, folder: str, listens: int) -> None:
    from notebook.app import JupyterNotebookApp  # looks for its configuration as it is loaded

    server = JupyterNotebookApp.initialize_server(config=_config(port, folder))

    def tell() -> None:
        _listen_on_ipv6_too(server.http_server, port)
        os.write(listens, b"listens\n")
        os.close(listens)

    server.io_loop.add_callback(tell)  # comes after Jupyter's own callback, which takes the port
    server.start()


def _end_with(lifeline: int) -> None:
    """Wait for the end of the lesson, then end too."""
    os.read(lifeline, 1)
    if hasattr(signal, "alarm"):
        signal.alarm(SECONDS_TO_END)  # ends this process even when Python hangs as it ends, and this thread is gone
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_END)
    os._exit(1)


def _listen_on_ipv6_too(server: HTTPServer, port: int) -> None:
    """Browsers may take localhost for ::1; nobody else may wait there for the token."""
    try:
        server.listen(port, "::1")
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            sys.exit(f"Port {port} of ::1, the other address of localhost, is in use.")


def _leave_configuration_aside() -> None:
    """Keep out what the user's other Jupyters are told: a password or another address would break the links.

    How the notebook looks (theme, keys) is still the user's own. Without configuration there is no JupyterLab beside
    the notebook either, which would ask the network for news; so the parts of the notebook that need it go too.
    """
    looks = Path(jupyter_config_dir(), "lab")
    os.environ.setdefault("JUPYTERLAB_SETTINGS_DIR", str(looks / "user-settings"))
    os.environ.setdefault("JUPYTERLAB_WORKSPACES_DIR", str(looks / "workspaces"))
    os.environ["JUPYTER_NO_CONFIG"] = "1"
    page = Path(jupyter_config_dir(), "labconfig", "page_config.json")
    page.parent.mkdir()
    page.write_text(json.dumps({"disabledExtensions": dict.fromkeys(NEED_LAB, True)}))


def _config(port: int, folder: str) -> Config:
    config = Config()
    config.Application.log_level = logging.WARNING
    config.Application.log_format = "%(message)s"
    config.ServerApp.ip = "127.0.0.1"
    config.ServerApp.port = port
    config.ServerApp.port_retries = 0  # on another port, every link would be wrong
    config.ServerApp.root_dir = folder
    config.ServerApp.open_browser = False
    config.ServerApp.allow_remote_access = False
    config.ServerApp.allow_root = True  # the lesson does not ask who runs it
    config.ServerApp.terminals_enabled = False
    config.ServerApp.kernel_spec_manager_class = ThisPython
    config.IdentityProvider.token = os.environ.pop("JUPYTER_TOKEN")  # not for the kernels
    config.KernelManager.shutdown_wait_time = KERNEL_SECONDS
    return config


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
