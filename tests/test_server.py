"""The lesson's server without a browser: what it answers, whom it refuses, how it begins and ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the server needs `pip install 'stepfit[lesson]'`")

SERVE = """
import sys, tempfile
from stepfit.lesson import workbook
from stepfit.lesson.server import serve
workbook._write_data = lambda folder: None  # has tests of its own, and loads torch
with tempfile.TemporaryDirectory() as folder:
    serve(port=0, host=sys.argv[1], open_browser=False, folder=folder)
"""
ON_LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc, which only Linux has")


def start(host="127.0.0.1"):
    """Start a server on any free port; give the process and its address."""
    command = [sys.executable, "-c", SERVE, host]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    line = server.stderr.readline()
    if line.startswith("The notebooks are in "):
        line = server.stderr.readline()
    if "The lesson is at http://" not in line:
        pytest.fail(line + server.communicate()[1])
    port = line.split(" (")[0].rsplit(":", 1)[1]
    return server, f"http://127.0.0.1:{port}"


def stop(server):
    server.terminate()
    server.communicate(timeout=20)


@pytest.fixture
def server():
    """A server of this test's own, that nobody has visited."""
    process, address = start()
    yield process, address
    if process.poll() is None:
        stop(process)


@pytest.fixture(scope="module")
def address():
    """Address of a server that the tests share."""
    process, address = start()
    yield address
    stop(process)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def ask(address, host=None):
    """Give status, headers and body of an answer; redirects are not followed."""
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_the_page_is_served_as_it_is(address):
    from stepfit.lesson.server import PAGE

    status, headers, body = ask(address)
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert body == PAGE.read_bytes()


def test_the_lab_answers(address):
    assert ask(f"{address}/live/_stcore/health")[0] == 200
    assert b"<title>" in ask(f"{address}/live/")[2]


@pytest.mark.parametrize(
    ("asked", "sent_to"),
    [
        ("/live", "/live/"),
        ("/live?topic=mnist&k=6", "/live/?topic=mnist&k=6"),
        ("/public/html/pytorch-basics_kmeans.html", "/live/?embed=true"),
    ],
)
def test_other_addresses_lead_to_the_lab(address, asked, sent_to):
    status, headers, _ = ask(address + asked)
    assert status == 307
    assert headers["location"].removeprefix(address) == sent_to


@pytest.mark.parametrize("path", ["/", "/live/", "/live/_stcore/health"])
def test_another_name_for_this_machine_is_refused(address, path):
    """A page from elsewhere may have its own name point to 127.0.0.1; its browser then sends that name as Host."""
    assert ask(address + path, host="evil.example")[0] == 400


def test_a_wider_host_takes_others_in():
    process, address = start(host="0.0.0.0")
    try:
        assert ask(address, host="classroom.example")[0] == 200
    finally:
        stop(process)


def test_localhost_is_as_good_as_the_number(address):
    assert ask(address, host="localhost")[0] == 200


def test_what_is_not_there_is_not_found(address):
    assert ask(f"{address}/Tutorial1.ipynb")[0] == 404


@pytest.mark.parametrize("name", ["Pytorch1_KMeans", "Pytorch1_KMeans.ipynb"])
def test_without_jupyter_a_page_says_how_to_open_the_notebooks(address, name):
    status, headers, body = ask(f"{address}/nb/{name}")
    assert (status, headers["cache-control"]) == (503, "no-store")
    for words in (
        "<h1>Jupyter is not running</h1>",
        "jupyter notebook",
        "VS Code",
        "section2_pytorch_basics/notebooks",
    ):
        assert words in body.decode()


def test_a_port_in_use_is_one_sentence_with_the_flag_to_use(tmp_path):
    from stepfit.lesson.server import serve

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=rf"^port {port} is in use.*choose another one with --port {port + 1}$"):
            serve(port=port, open_browser=False, folder=tmp_path)


@pytest.mark.parametrize(
    ("port", "host", "words"),
    [
        (70_000, "127.0.0.1", "the port is 70000; it must be from 0 to 65535"),
        (-1, "127.0.0.1", "the port is -1; it must be from 0 to 65535"),
        (0, "192.0.2.1", r"cannot listen on 192\.0\.2\.1: .*; --host must be an address of this machine"),
    ],
)
def test_a_bad_port_or_host_is_one_sentence(port, host, words, tmp_path):
    from stepfit.lesson.server import serve

    with pytest.raises(ValueError, match=words):
        serve(port=port, host=host, open_browser=False, folder=tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
@pytest.mark.parametrize("visited", [False, True], ids=["unvisited", "warming up"])
def test_ctrl_c_ends_it_well(server, visited):
    process, address = server
    ask(address if visited else f"{address}/live/_stcore/health")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert said == ""


def memory(process):
    """Give the resident memory in MB, and whether torch is in it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    loaded = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000, loaded


@ON_LINUX
def test_nobody_pays_for_torch_before_the_first_visitor(server):
    process, address = server
    ask(f"{address}/live/_stcore/health")
    megabytes, torch_is_loaded = memory(process)
    assert not torch_is_loaded
    assert megabytes < 70


@ON_LINUX
def test_the_first_reader_warms_the_lab_up(server):
    process, address = server
    ask(address)
    deadline = time.monotonic() + 60
    while not memory(process)[1]:
        assert time.monotonic() < deadline, "torch was not loaded"
        time.sleep(0.1)


def test_the_browser_is_opened_on_the_page(monkeypatch):
    from stepfit.lesson import server

    opened = []
    monkeypatch.setattr(server.webbrowser, "open", opened.append)
    monkeypatch.setattr(server, "_app", lambda *words: None)
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: time.sleep(0.5))
    monkeypatch.setattr(server.workbook, "lay_out", lambda folder: [])
    server.serve(port=0)
    assert len(opened) == 1
    assert opened[0].startswith("http://localhost:")
    server.serve(port=0, open_browser=False)
    assert len(opened) == 1


def test_a_lesson_without_jupyter_installed_says_what_to_install(monkeypatch, capsys, tmp_path):
    from stepfit.lesson import server

    monkeypatch.setattr(server, "_app", lambda host, folder, running: "app" if running is None else None)
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: print(self.config.app))
    monkeypatch.setattr(server.workbook, "lay_out", lambda folder: ["A.ipynb has a new version."])
    monkeypatch.setattr(server.jupyter, "missing", lambda: "Notebooks need Jupyter: pip install 'stepfit[lesson]'")
    server.serve(port=0, open_browser=False, folder=tmp_path, jupyter_port=0)
    served, said = capsys.readouterr()
    assert served == "app\n"
    assert said.splitlines()[:3] == [
        "A.ipynb has a new version.",
        f"The notebooks are in {tmp_path / server.workbook.NOTEBOOKS}",
        "Notebooks need Jupyter: pip install 'stepfit[lesson]'",
    ]


def test_export_writes_the_page_its_pictures_the_notebooks_and_the_data(tmp_path, monkeypatch):
    from stepfit.datasets import load_split
    from stepfit.lesson import server
    from stepfit.lesson.server import PAGE, export
    from stepfit.viewers import animation

    drawn = {}
    monkeypatch.setattr(
        animation, "animate", lambda run, x, path, y=None: drawn.update({path.name: (len(run), y is None)})
    )
    export(tmp_path / "new" / "lesson")
    folder = tmp_path / "new" / "lesson"
    assert (folder / "index.html").read_bytes() == PAGE.read_bytes()
    assert drawn == {"K_means_plane.gif": (13, True), "K_means.gif": (20, False), "Linear_Regression.gif": (100, False)}
    names = {path.name: path.read_bytes() for path in server.workbook.SHIPPED.iterdir()}
    assert len(names) == 3
    assert {path.name: path.read_bytes() for path in (folder / "notebooks").iterdir()} == names
    assert load_split(folder / "data" / "toy_data_two_moon.npz").x_train.shape == (600, 2)
