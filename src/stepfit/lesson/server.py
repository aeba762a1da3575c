"""The lesson's server: the page at `/`, the live lab at `/live/`, and `/nb/`, which opens notebooks in Jupyter."""

from __future__ import annotations

import errno
import gc
import ipaddress
import os
import shutil
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack, suppress
from html import escape
from pathlib import Path
from types import FrameType

import streamlit
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from stepfit.lesson import jupyter, workbook

HERE = Path(__file__).parent
PAGE = HERE / "page" / "index.html"
LAB = HERE / "lab" / "live.py"
LOOPBACK = ("127.0.0.1", "localhost")
SECONDS_TO_END = 1  # for open connections after Ctrl-C
NO_JUPYTER = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Jupyter is not running</title>
<body style="font:1.1em/1.5 sans-serif;max-width:40em;margin:2em auto;padding:0 1em">
<h1>Jupyter is not running</h1>
<p>{reason}</p>
<p>The notebooks are in <code>{folder}</code>. You can open them</p>
<ul>
<li>with the lesson: start <code>stepfit learn</code> again, without <code>--no-jupyter</code>;</li>
<li>with Jupyter alone: start <code>jupyter notebook</code> in that folder;</li>
<li>in VS Code: open that folder, then pick the Python that has stepfit as the kernel.</li>
</ul>
"""
STILL_COMPUTING = (
    "warm-up",
    "ScriptRunner.scriptThread",
)  # names of threads: ours, and Streamlit's for a run of the lab


def serve(
    *,
    port: int = 4000,
    host: str = "127.0.0.1",
    open_browser: bool = True,
    folder: str | os.PathLike[str] = ".",
    jupyter_port: int | None = None,
) -> None:
    """Serve the lesson until Ctrl-C.

    Parameters
    ----------
    port : int
        Where the page and the lab are. 0 takes any free one.
    host : str
        The address to listen on. Any other than this machine's own lets others in: whoever reaches the port can use
        the lab. The notebooks open on this machine alone, whatever the host.
    open_browser : bool
        Open the page in the browser.
    folder : str or path
        Where the working copy of the notebooks is laid out.
    jupyter_port : int, optional
        Where Jupyter shows them. 0 takes any free port; without one, Jupyter is not started.

    Raises
    ------
    ValueError
        A port, the address or the folder cannot be had; the message says what to do. Nothing was started.
    """
    with suppress(KeyboardInterrupt), ExitStack() as until_the_end:
        # The end that a system asks for is the end that Ctrl-C asks for: with everything closed.
        until_the_end.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        listener = until_the_end.enter_context(_listen(host, port))
        if jupyter_port is not None:
            with _listen("127.0.0.1", jupyter_port, flag="--jupyter-port") as free:
                jupyter_port = free.getsockname()[1]
        for sentence in workbook.lay_out(folder):
            _say(sentence)
        _say(f"The notebooks are in {Path(folder) / workbook.NOTEBOOKS}")
        running = None
        if jupyter_port is not None:
            if lacks := jupyter.missing():
                _say(lacks)
            else:
                running = until_the_end.enter_context(jupyter.Jupyter(folder, jupyter_port))
        address = f"http://{'localhost' if host in LOOPBACK else host}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            _app(host, Path(folder), running),
            log_level="warning",
            timeout_graceful_shutdown=SECONDS_TO_END,
            proxy_headers=False,  # a visitor is who is connected, not who a header says
        )
        _say(f"The lesson is at {address} (Ctrl-C ends it)")
        if open_browser:
            # The port listens already, so the browser may come before the server is ready. A thread, because a
            # browser in the terminal does not return.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        _Server(config, running).run(sockets=[listener])  # gives Ctrl-C back after it has closed everything
    if any(thread.name in STILL_COMPUTING for thread in threading.enumerate()):
        # Nothing can stop torch in the middle, and an interpreter that ends under its feet aborts.
        os._exit(0)


def export(folder: str | os.PathLike[str]) -> None:
    """Write the lesson as files: the page, its three runs as GIFs, the notebooks and their data.

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
    shutil.copytree(workbook.SHIPPED, folder / "notebooks", dirs_exist_ok=True)
    write_toy_data(folder / "data")  # the notebooks look for it in ../data
    for picture in (runs.plane(), runs.wall(), runs.moons()):
        animate(picture.run, picture.x, folder / picture.gif, picture.y)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _listen(host: str, port: int, *, flag: str = "--port") -> socket.socket:
    """Take the port at once, so that a port in use is a sentence and not a traceback later on."""
    if not 0 <= port <= 65535:
        raise ValueError(f"the port is {port}; it must be from 0 to 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            said = f"port {port} is in use, perhaps by another lesson; choose another one with {flag} {port + 1}"
            if flag == "--jupyter-port":
                said += ", or do without Jupyter with --no-jupyter"
        elif error.errno == errno.EACCES:
            said = f"port {port} is not open to this user; choose one above 1023 with {flag} 4000"
        else:
            said = f"cannot listen on {host}: {error.strerror or error}; --host must be an address of this machine"
        raise ValueError(said) from None


class _Server(uvicorn.Server):
    """Tells Jupyter to end as soon as it is told so itself: the two take their second at the same time."""

    def __init__(self, config: uvicorn.Config, running: jupyter.Jupyter | None) -> None:
        super().__init__(config)
        self._jupyter = running

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self._jupyter:
            self._jupyter.begin_to_stop()
        super().handle_exit(sig, frame)


def _app(host: str, folder: Path, running: jupyter.Jupyter | None) -> Starlette:
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

    def notebook(request: Request) -> Response:
        return _notebook(request, folder, running)

    # Without a check of the Host header, a page from elsewhere whose name is made to point here could use the lab.
    # Whoever listens on more than this machine has said that others may come, under names not known here.
    hosts = list(LOOPBACK) if host in LOOPBACK else ["*"]
    return Starlette(
        routes=[
            Route("/", page),
            Route("/live", live),
            Route("/public/html/pytorch-basics_kmeans.html", old_address),
            Route("/nb/{name}", notebook),
            Mount("/live", lab),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        lifespan=lab.lifespan(),
    )


def _notebook(request: Request, folder: Path, running: jupyter.Jupyter | None) -> Response:
    """Lead to a notebook in Jupyter, with the token: whoever has it can run code, so only this machine gets it."""
    if not (_is_loopback(request) and request.url.hostname in LOOPBACK and _is_this_user(request)):
        words = "The notebooks open only for the user who runs the lesson, on the same computer, at http://localhost."
        return PlainTextResponse(words, 403)
    names = sorted(path.stem for path in workbook.SHIPPED.glob("*.ipynb"))
    name = request.path_params["name"].removesuffix(".ipynb")
    if name not in names:
        return PlainTextResponse(f"There is no notebook {name}; there are {', '.join(names)}.", 404)
    path = workbook.NOTEBOOKS / f"{name}.ipynb"
    try:
        if running is None:
            raise RuntimeError("This lesson was started without it.")
        return RedirectResponse(running.address(path.as_posix()), 303, headers={"Cache-Control": "no-store"})
    except RuntimeError as reason:
        words = NO_JUPYTER.format(reason=escape(str(reason)), folder=escape(str((folder / path).parent.resolve())))
        return HTMLResponse(words, 503, headers={"Cache-Control": "no-store"})


def _is_loopback(request: Request) -> bool:
    peer = ipaddress.ip_address(request.client.host)
    return (getattr(peer, "ipv4_mapped", None) or peer).is_loopback


def _is_this_user(request: Request) -> bool:
    """Tell users of one computer apart where the system lets us, which is Linux; root may do everything anyway."""
    ends = (f":{request.client.port:04X}", f":{request.scope['server'][1]:04X}")
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for row in table.read_text().splitlines()[1:] if table.exists() else ():
            _, theirs, ours, _, _, _, _, user, *_ = row.split()
            if (theirs[-5:], ours[-5:]) == ends:
                return int(user) in (os.geteuid(), 0)
    return True


def _once(work: Callable[[], None]) -> Callable[[], None]:
    """Return a function that does the work in a thread at its first call, and nothing later."""
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
