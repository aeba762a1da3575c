"""Fixtures for the tests in a real browser: Debian's Chromium, a page that must stay quiet, a running lesson, axe."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET_CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MILLISECONDS = 60_000  # the first visit loads torch, on a machine that may be busy
COLORS = ["color-contrast", "link-in-text-block"]  # the rules of axe that look at colors
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def base_url():
    """No base: addresses are whole. (pytest-playwright's own fixture is deprecated by pytest 9.)"""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"needs Chromium at {CHROMIUM}: `apt-get install chromium`, or name another with CHROMIUM=PATH")
    return browser_type_launch_args | {"executable_path": CHROMIUM, "args": QUIET_CHROMIUM}


@pytest.fixture(autouse=True)
def patient(context):
    """Wait for what shall be seen for as long as a busy machine may take."""
    context.set_default_timeout(MILLISECONDS)
    expect.set_options(timeout=MILLISECONDS)


@pytest.fixture
def quiet(context):
    """Fail the test on a console warning, a page error, or a request that leaves this machine.

    Yields the list of complaints, so that a test can look at it, or clear what it caused on purpose.
    """
    complaints: list[str] = []

    def hear(message):
        if message.type in ("error", "warning"):
            complaints.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def see(request):
        address = urlsplit(request.url)
        if address.scheme not in ("file", "data", "blob") and address.hostname not in ("localhost", "127.0.0.1"):
            complaints.append(f"request off this machine: {request.url}")

    context.on("console", hear)
    context.on("weberror", lambda error: complaints.append(f"page error: {error.error}"))
    context.on("request", see)
    yield complaints
    assert not complaints, "the page is not quiet:\n" + "\n".join(complaints)


@pytest.fixture(scope="session")
def lesson(tmp_path_factory):
    """Address of a running lesson, without the last slash."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = str(tmp_path_factory.mktemp("lesson"))
    words = ["--no-browser", "--no-jupyter", "--port", str(port), "--dir", folder]
    command = [sys.executable, "-m", "stepfit", "learn", *words]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, server)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(address, server):
    deadline = time.monotonic() + 60
    while True:
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            if server.poll() is not None:
                pytest.fail(f"the lesson ended at once with exit code {server.returncode}")
            if time.monotonic() > deadline:
                pytest.fail(f"the lesson did not answer on {address} within 60 s")
            time.sleep(0.1)


@pytest.fixture
def axe():
    """Give `axe(page, scheme)`: open every <details>, then demand that axe finds nothing against WCAG 2.2 AA.

    Between light and dark only colors differ, so that of the dark scheme only those are looked at.
    """
    from axe_playwright_python.sync_playwright import Axe

    def demand(page, scheme="light", context=None):
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        rules = {"type": "tag", "values": WCAG} if scheme == "light" else {"type": "rule", "values": COLORS}
        options = {"runOnly": rules, "resultTypes": ["violations"]}
        found = Axe().run(page, context=context, options=options)
        assert found.violations_count == 0, found.generate_report()

    return demand
