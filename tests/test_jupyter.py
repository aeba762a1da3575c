"""Jupyter beside the lesson: it opens notebooks, keeps to itself, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from importlib import metadata
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("streamlit", reason="the server needs `pip install 'stepfit[lesson]'`")
pytest.importorskip("notebook", reason="notebooks need `pip install 'stepfit[lesson]'`")
pytest.importorskip("psutil", reason="processes are looked for with psutil, which comes with ipykernel")

import psutil

from stepfit.datasets import write_toy_data
from stepfit.lesson import jupyter, workbook

NAME = "Pytorch1_KMeans"
COURSE = f"/notebooks/pytorch-tutorial/section2_pytorch_basics/notebooks/{NAME}.ipynb"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def ask(address, *, jar=None, host=None, data=None):
    """Give status, headers and body of an answer; redirects are not followed, cookies go into the jar."""
    request = urllib.request.Request(address, data, {"Host": host} if host else {})
    browser = urllib.request.build_opener(NoRedirect, urllib.request.HTTPCookieProcessor(jar))
    try:
        with browser.open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


class Lesson:
    """A running `stepfit learn` on free ports, with a folder of its own."""

    def __init__(self, folder, *options):
        self.folder = folder
        write_toy_data(folder / workbook.SECTION / "data")  # saves a second
        # A user with other kernels and another Jupyter, whose ways must not matter here.
        (folder / "kernels/python3").mkdir(parents=True)
        (folder / "kernels/python3/kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "other"}')
        (folder / "jupyter_server_config.py").write_text("c.ServerApp.base_url = '/other'; c.ServerApp.port = 1")
        words = ["learn", "--port", "0", "--jupyter-port", "0", "--no-browser", "--dir", str(folder), *options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stepfit", *words],
            env=os.environ | {"JUPYTER_PATH": str(folder), "JUPYTER_CONFIG_DIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self):
        for line in self.process.stderr:
            if "The lesson is at http://" in line:
                self.port = int(line.split(" (")[0].rsplit(":", 1)[1])
                self.address = f"http://127.0.0.1:{self.port}"
                return self
        return pytest.fail(f"the lesson ended with exit code {self.process.wait()}")

    def opened(self):
        """The address that /nb/ leads to."""
        status, headers, body = ask(f"{self.address}/nb/{NAME}")
        assert status == 303, body
        return headers["location"]

    def jupyter(self, path):
        """The address of another part of Jupyter, with the token."""
        at = urlsplit(self.opened())
        return f"{at.scheme}://{at.netloc}{path}?{at.query}"

    def start_kernel(self):
        status, _, body = ask(self.jupyter("/api/kernels"), data=json.dumps({"name": "python3"}).encode())
        assert status == 201, body

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def lessons(tmp_path_factory):
    """Two learners on one machine: the first lets others visit."""
    both = [
        Lesson(tmp_path_factory.mktemp(f"learner{i}"), *words) for i, words in enumerate([["--host", "0.0.0.0"], []])
    ]
    yield [lesson.wait() for lesson in both]
    for lesson in both:
        lesson.end()


@pytest.fixture
def lesson(lessons):
    return lessons[1]


def gone(processes):
    """Wait until processes have ended; give those that have not."""
    return psutil.wait_procs(processes, timeout=15)[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


# Opening notebooks


@pytest.mark.parametrize("name", [NAME, f"{NAME}.ipynb"])
def test_a_link_leads_to_the_notebook_at_the_course_s_address(lesson, name):
    status, headers, _ = ask(f"{lesson.address}/nb/{name}")
    at = urlsplit(headers["location"])
    assert (status, headers["cache-control"]) == (303, "no-store")
    assert (at.scheme, at.hostname, at.path) == ("http", "localhost", COURSE)
    assert len(parse_qs(at.query)["token"][0]) > 40


def test_the_bare_address_of_the_course_works_afterwards(lesson):
    jar = CookieJar()
    with_token = lesson.opened()
    bare = with_token.partition("?")[0]
    assert ask(bare, jar=jar)[0] == 302  # to the login
    assert ask(with_token, jar=jar)[0] == 200
    status, _, body = ask(bare, jar=jar)
    assert status == 200
    assert b"Jupyter Notebook" in body


def test_an_unknown_notebook_is_not_found_in_words(lesson):
    status, _, body = ask(f"{lesson.address}/nb/Pytorch9_Trees.ipynb")
    assert status == 404
    assert body.decode().startswith("There is no notebook Pytorch9_Trees; there are Pytorch1_KMeans, ")


def test_kernels_are_this_python(lesson):
    specs = json.loads(ask(lesson.jupyter("/api/kernelspecs"))[2])["kernelspecs"]
    assert {name: spec["spec"]["argv"][0] for name, spec in specs.items()} == {"python3": sys.executable}
    lesson.start_kernel()
    assert any(
        child.cmdline()[0] == sys.executable and "ipykernel_launcher" in child.cmdline() for child in lesson.children()
    )


def test_no_news_no_terminals_and_no_token_in_the_arguments(lesson):
    token = parse_qs(urlsplit(lesson.opened()).query)["token"][0]
    assert not any(token in word for child in lesson.children() for word in child.cmdline())
    for path in ("/lab/api/news", "/lab/api/update", "/api/terminals", "/lab"):
        assert ask(lesson.jupyter(path))[0] in (404, 500), path


def test_a_jupyter_that_has_ended_is_told_in_words(tmp_path):
    with jupyter.Jupyter(tmp_path, free_port()) as running:
        assert running.address("a b.ipynb").startswith(f"http://localhost:{running.port}/notebooks/a%20b.ipynb?token=")
        running._process.kill()
        running._process.wait()
        with pytest.raises(RuntimeError, match="It left no word"):
            running.address("a b.ipynb")


def test_a_port_that_somebody_took_in_between_is_told_in_words(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            jupyter.Jupyter(tmp_path, port) as running,
            pytest.raises(RuntimeError, match=f"port {port} is not available"),
        ):
            running.address("a.ipynb")


# Without Jupyter


def test_jupyter_that_is_missing_or_old_is_one_sentence(monkeypatch):
    assert jupyter.missing() is None
    monkeypatch.setattr(metadata, "version", lambda name: "6.5.7")
    assert jupyter.missing() == "Notebooks need Jupyter Notebook 7 or newer, 6.5.7 is here: pip install -U notebook"

    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing)
    assert jupyter.missing() == "Notebooks need Jupyter: pip install 'stepfit[lesson]'"


# Keeping to itself


def other_address():
    """This machine's address for others, without which a test has nobody to be."""
    for found in psutil.net_if_addrs().values():
        for at in found:
            if at.family == socket.AF_INET and not at.address.startswith("127."):
                return at.address
    return pytest.skip("this machine has no address but its own")


def test_a_wider_host_does_not_hand_out_the_token(lessons):
    wide, there = lessons[0], other_address()
    for host in (None, "localhost", f"localhost:{wide.port}", "127.0.0.1"):
        status, headers, body = ask(f"http://{there}:{wide.port}/nb/{NAME}", host=host)
        assert status == 403
        assert b"only for the user who runs the lesson, on the same computer" in body
        assert "token" not in f"{headers}{body}"
    assert ask(f"http://{there}:{wide.port}/")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((there, urlsplit(wide.opened()).port), timeout=5)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4000", "localhost.evil.example", "192.0.2.1"])
def test_a_name_that_was_made_to_point_here_gets_no_token(lessons, host):
    for lesson in lessons:
        status, headers, body = ask(f"{lesson.address}/nb/{NAME}", host=host)
        assert status in (400, 403)
        assert "token" not in f"{headers}{body}"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be two users")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose connection it is")
def test_another_user_of_this_machine_gets_no_token(lesson):
    asking = (
        f"exec 3<>/dev/tcp/127.0.0.1/{lesson.port}; "
        f"printf 'GET /nb/{NAME} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3; cat <&3"
    )
    said = [
        subprocess.run(["bash", "-c", asking], capture_output=True, text=True, user=user).stdout for user in (0, 65534)
    ]
    assert "303 See Other" in said[0]
    assert "403 Forbidden" in said[1]
    assert "token" not in said[1]


def test_two_learners_do_not_meet(lessons):
    jar = CookieJar()  # one browser, or one after the other at the same desk
    for lesson in lessons:
        assert ask(lesson.opened(), jar=jar)[0] == 200
    bare = [lesson.opened().partition("?")[0] for lesson in lessons]
    assert [ask(address, jar=jar)[0] for address in bare] == [200, 200]
    assert len([cookie for cookie in jar if cookie.name.startswith("username")]) == 2
    tokens = [urlsplit(lesson.opened()).query for lesson in lessons]
    assert [ask(f"{address}?{token}")[0] for address, token in zip(bare, reversed(tokens))] == [302, 302]
    for lesson in lessons:
        mine = lesson.folder / f"{lesson.folder.name}.txt"
        mine.write_text("")
        names = {entry["name"] for entry in json.loads(ask(lesson.jupyter("/api/contents"))[2])["content"]}
        assert {name for name in names if name.startswith("learner")} == {mine.name}


# How it ends


ENDS = ["SIGINT", "SIGTERM", "SIGKILL"]


@pytest.fixture(scope="module")
def doomed(tmp_path_factory):
    """A lesson an end; they are started together, as each takes seconds."""
    lessons = {how: Lesson(tmp_path_factory.mktemp(how)) for how in ENDS}
    yield lessons
    for lesson in lessons.values():
        lesson.end()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("how", ENDS)
def test_nothing_is_left(doomed, how):
    lesson = doomed[how].wait()
    lesson.start_kernel()
    children = lesson.children()
    assert len(children) >= 2  # Jupyter and the kernel
    lesson.process.send_signal(signal.Signals[how])
    _, said = lesson.process.communicate(timeout=20)
    assert said == ""
    if how != "SIGKILL":
        assert lesson.process.returncode == 0
        assert [child for child in children if child.is_running()] == []  # ended before the lesson did
    assert gone(children) == []


@pytest.mark.parametrize("flag", ["--jupyter-port", "--port"])
def test_a_port_in_use_is_one_sentence_and_nothing_is_started(tmp_path, flag):
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy, port = other.getsockname()[1], free_port()
        ports = {"--port": port, "--jupyter-port": port, flag: busy}
        words = [str(word) for pair in ports.items() for word in pair]
        command = [sys.executable, "-m", "stepfit", "learn", "--no-browser", "--dir", str(tmp_path), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"stepfit: port {busy} is in use, perhaps by another lesson; ")
        assert f"{flag} {busy + 1}" in done.stderr
        assert ("--no-jupyter" in done.stderr) == (flag == "--jupyter-port")
        assert done.stderr.count("\n") == 1
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        assert list(tmp_path.iterdir()) == []
