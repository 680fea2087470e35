"""Pictures of the real dashboard for the documents: ``python scripts/screenshots.py`` writes ``docs/images/*.png``.

It starts the server on a free port, opens every view below in Debian's Chromium, waits until all is computed, and
saves what is seen. A view that shows an error is not saved and ends the run with an error.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "images"
READY = """() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
&& !document.querySelector('[data-testid=stSkeleton], [class*=st-key-stop]')"""


@dataclass(frozen=True)
class View:
    """One picture: its file name, what is opened, and the window."""

    name: str
    path: str
    width: int = 1440
    height: int = 900
    scheme: str = "light"


VIEWS = (
    View("comparison", "/"),
    View("formation", "/formation"),
    View("comparison-dark", "/?draw=mask", scheme="dark"),
    View("comparison-phone", "/", width=390, height=844),
    View("zoo", "/zoo"),
    View("results", "/results?result=objectives"),
    View("three-questions", "/attention-and-convolution", height=1040),
    View("video", "/video?film_stride=10&film_side=112"),
)
RUN = (
    *("--model", "DINO=scenes-vit-dino", "--model", "supervised=scenes-vit-supervised", "--images", "scenes:40"),
    *("--probe", "attention-distance", "--probe", "cka"),
)
"""The run that the page of results shows."""


@contextmanager
def dashboard(runs: Path) -> Iterator[str]:
    """Run the server, which finds its runs there, and give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/Home.py", "--server.port", str(port)]
    environment = {**os.environ, "DASHBOARD_RUNS": str(runs)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).read()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def take(page: Page, address: str, view: View) -> None:
    """Open one view and save it."""
    page.set_viewport_size({"width": view.width, "height": view.height})
    page.emulate_media(color_scheme="dark" if view.scheme == "dark" else "light")
    page.goto(address + view.path)
    page.wait_for_selector("h1", timeout=120_000)
    page.wait_for_function(READY, timeout=120_000)
    page.wait_for_timeout(2_000)  # charts and fonts settle
    if page.locator("[data-testid=stException], [data-testid=stAlert]").count():
        raise SystemExit(f"{view.path} shows an error: it was not saved.")
    page.screenshot(path=TARGET / f"{view.name}.png")


def main() -> None:
    """Take the pictures that were asked for, all by default."""
    parser = argparse.ArgumentParser(description="Write docs/images/*.png from the real dashboard.")
    parser.add_argument("names", nargs="*", help=", ".join(view.name for view in VIEWS))
    names = parser.parse_args().names
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise SystemExit("There is no chromium here: install Debian's, or set CHROMIUM to its path.")
    TARGET.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as runs, dashboard(Path(runs)) as address, sync_playwright() as playwright:
        if not names or "results" in names:
            measure = [sys.executable, "-m", "probes", "run", *RUN, "--out", f"{runs}/objectives.zarr"]
            subprocess.run(measure, cwd=ROOT, check=True)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        for view in VIEWS:
            if not names or view.name in names:
                take(page, address, view)
        browser.close()


if __name__ == "__main__":
    main()
