"""The lesson's server: one process, one port, the page at `/` and the live lab at `/live/`."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import streamlit
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse
from starlette.routing import Mount, Route

HERE = Path(__file__).parent
PAGE = HERE / "page" / "index.html"
LAB = HERE / "lab" / "live.py"
LOOPBACK = ("127.0.0.1", "localhost")
SECONDS_TO_END = 1  # for open connections after Ctrl-C
STILL_COMPUTING = (
    "warm-up",
    "ScriptRunner.scriptThread",
)  # names of threads: ours, and Streamlit's for a run of the lab


def serve(*, port: int = 4000, host: str = "127.0.0.1", open_browser: bool = True) -> None:
    """Serve the lesson until Ctrl-C.

    Parameters
    ----------
    port : int
        Where the page and the lab are. 0 takes any free one.
    host : str
        The address to listen on. Any other than this machine's own lets others in: whoever reaches the port can use
        the lab.
    open_browser : bool
        Open the page in the browser.

    Raises
    ------
    ValueError
        The port or the address cannot be had; the message says what to do.
    """
    with _listen(host, port) as listener, suppress(KeyboardInterrupt):
        address = f"http://{'localhost' if host in LOOPBACK else host}:{listener.getsockname()[1]}"
        config = uvicorn.Config(_app(host), log_level="warning", timeout_graceful_shutdown=SECONDS_TO_END)
        print(f"The lesson is at {address} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        if open_browser:
            # The port listens already, so the browser may come before the server is ready. A thread, because a
            # browser in the terminal does not return.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        uvicorn.Server(config).run(sockets=[listener])  # gives Ctrl-C back after it has closed everything
    if any(thread.name in STILL_COMPUTING for thread in threading.enumerate()):
        # Nothing can stop torch in the middle, and an interpreter that ends under its feet aborts.
        os._exit(0)


def export(folder: str | os.PathLike[str]) -> None:
    """Write the lesson as files: the page, its three runs as GIFs, and the toy data.

    Parameters
    ----------
    folder : str or path
        Is made where it does not exist. The page in it needs neither server nor network.
    """
    from stepfit.datasets import write_toy_data
    from stepfit.lesson.page import runs
    from stepfit.viewers.animation import animate

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PAGE, folder)
    write_toy_data(folder / "data")
    for picture in (runs.plane(), runs.wall(), runs.moons()):
        animate(picture.run, picture.x, folder / picture.gif, picture.y)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port at once, so that a port in use is a sentence and not a traceback later on."""
    if not 0 <= port <= 65535:
        raise ValueError(f"the port is {port}; it must be from 0 to 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            said = f"port {port} is in use, perhaps by another lesson; choose another one with --port {port + 1}"
        elif error.errno == errno.EACCES:
            said = f"port {port} is not open to this user; choose one above 1023 with --port 4000"
        else:
            said = f"cannot listen on {host}: {error.strerror or error}; --host must be an address of this machine"
        raise ValueError(said) from None


def _app(host: str) -> Starlette:
    # Streamlit finds the lab's .streamlit/config.toml beside its script; one App a process.
    lab = streamlit.App(LAB)
    warm_up = _once(_warm_up)

    def page(request: Request) -> FileResponse:
        # Whoever reads the page turns to the lab soon. Whoever never comes costs no memory.
        return FileResponse(PAGE, headers={"Cache-Control": "no-cache"}, background=BackgroundTask(warm_up))

    def live(request: Request) -> RedirectResponse:
        return RedirectResponse(request.url.replace(path="/live/"))

    def old_address(request: Request) -> RedirectResponse:
        return RedirectResponse("/live/?embed=true")

    # Without a check of the Host header, a page from elsewhere whose name is made to point here could use the lab.
    # Whoever listens on more than this machine has said that others may come, under names not known here.
    hosts = list(LOOPBACK) if host in LOOPBACK else ["*"]
    return Starlette(
        routes=[
            Route("/", page),
            Route("/live", live),
            Route("/public/html/pytorch-basics_kmeans.html", old_address),
            Mount("/live", lab),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        lifespan=lab.lifespan(),
    )


def _once(work: Callable[[], None]) -> Callable[[], None]:
    """Give a function that does the work in a thread at its first call, and nothing later."""
    begun = threading.Lock()

    def begin() -> None:
        if begun.acquire(blocking=False):
            threading.Thread(target=work, name="warm-up", daemon=True).start()

    return begin


def _warm_up() -> None:
    """Load what the first view of the lab needs: torch takes a second, and so does its first optimizer."""
    import stepfit
    from stepfit.lesson.lab import descent, kmeans, mnist  # noqa: F401

    stepfit.record(stepfit.linear_regression([[0.0], [1.0]], [0.0, 1.0], max_steps=1))
    gc.collect()
    gc.freeze()  # what is loaded now stays: the collector need not look through it at every rerun of the lab
