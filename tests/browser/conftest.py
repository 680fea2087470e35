"""The real server and Debian's Chromium. Without a browser the tests are skipped; in CI that is a failure."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests import running

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         "--use-fake-device-for-media-stream"]  # fmt: skip
PATIENCE = 240_000
"""Milliseconds in which a page rests at last: the first one waits for all imports, however busy the machine is."""
QUIET = "[data-testid=stApp][data-test-script-state=notRunning]"


def pytest_collection_modifyitems(items):
    if CHROMIUM is None and not os.environ.get("CI"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="no chromium on this machine; on Debian: apt install chromium"))


@pytest.fixture(scope="session")
def browser():
    assert CHROMIUM, "CI is set and there is no chromium: install it, or set CHROMIUM to its path"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser):
    """One for all tests, so that the browser fetches Streamlit's own files once."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)
    yield context
    context.close()


@pytest.fixture
def page(context):
    page = context.new_page()
    page.set_viewport_size({"width": 1440, "height": 900})
    yield page
    page.close()
    context.clear_permissions()  # what is granted to an address forbids all else there


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory):
    """Where the server writes its log and finds its runs."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(server_folder):
    """The address of a running dashboard whose hub is a port where nobody answers."""
    with running.dashboard(server_folder) as port:
        yield f"http://127.0.0.1:{port}"
    log = (server_folder / "log").read_text()
    assert "Traceback" not in log, log[-4000:]


@pytest.fixture
def visit(page, server):
    """Open an address of the dashboard and wait until all is computed.

    The test fails on a JavaScript error, on an exception shown by Streamlit, and on a request that leaves the machine.
    """
    errors, outside = [], []
    ours = (server, server.replace("http", "ws"), "data:", "blob:")
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(ours) else outside.append(request.url))

    def go(path):
        page.goto(server + path)
        wait_until_settled(page)
        return page

    yield go
    assert errors == []
    assert outside == []
    assert page.locator("[data-testid=stException]").count() == 0


def wait_until_settled(page):
    """Wait until the script rests and nothing is being computed."""
    page.wait_for_selector(QUIET, timeout=PATIENCE)
    page.wait_for_function(
        """() => !document.querySelector('[data-testid=stSkeleton], [class*=st-key-stop]')
        && document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'""",
        timeout=PATIENCE,
    )


@pytest.fixture
def settled():
    """Wait until a page rests: the script is done and nothing is being computed."""
    return wait_until_settled
