"""How smoothly two grids of 500 × 500 are drawn and hovered in Chromium.

Run ``python -m benchmarks.grid_in_browser [IMAGES]``. It starts the dashboard, opens the page of image similarity with
two small random models, and reads the browser's own clock: from the arrival of the data to the frame in which both
grids are on the screen, and from a movement of the pointer to the frame with both images beside each other.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
MODELS = ("timm:test_vit@random:0", "timm:test_vit2@random:0")
MOVES = 60
READY = """() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
  && !document.querySelector('[data-testid=stSkeleton], [class*=st-key-stop]')"""
# Notes when data arrive, when a grid is painted, and how long a movement of the pointer takes to reach the screen.
CLOCKS = """
window.clocks = {arrived: [], painted: [], moved: []};
const Socket = window.WebSocket;
window.WebSocket = class extends Socket {
  constructor(...given) {
    super(...given);
    this.addEventListener('message', (event) => clocks.arrived.push(
      [performance.now(), event.data.byteLength ?? event.data.size ?? event.data.length]));
  }
};
const afterFrame = (then) => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => then(performance.now());
  channel.port2.postMessage(0);
});
const put = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
  put.apply(this, given);
  afterFrame((now) => clocks.painted.push(now));
};
window.addEventListener('pointermove', () => {
  const start = performance.now();
  afterFrame((now) => clocks.moved.push(now - start));
}, true);
"""


def main(images: int) -> None:
    """Measure and print."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("There is no chromium on this machine: install it, or set CHROMIUM to its path.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/Home.py", "--server.port", port]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(address)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.add_init_script(CLOCKS)
            link = f"{address}/embeddings?set=scenes-{images}&" + "&".join(f"model={model}" for model in MODELS)
            page.goto(link)
            page.wait_for_timeout(2000)
            page.wait_for_function(READY, timeout=900_000)
            page.reload()  # now that all is computed, the page is drawn at once
            page.wait_for_timeout(1000)
            page.wait_for_function(READY, timeout=60_000)
            page.wait_for_timeout(1500)
            draw(page, images)
            hover(page)
            select(page)
            browser.close()
    finally:
        server.terminate()
        server.wait(20)


def wait(address: str) -> None:
    """Until the server answers."""
    for _ in range(300):
        try:
            urllib.request.urlopen(address + "/_stcore/health", timeout=1).read()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit("The dashboard did not start within a minute.")


def draw(page: Page, images: int) -> None:
    """Print what the page received and how long it took to draw, with Streamlit's own scripts still starting."""
    arrived, painted = page.evaluate("[clocks.arrived, clocks.painted]")
    at, size = max((entry for entry in arrived), key=lambda entry: entry[1])
    print(f"two grids of {images} × {images}, thumbnails, titles: {size / 1e6:.2f} MB in one message")
    print(f"everything that a first visit receives over the socket: {sum(e[1] for e in arrived) / 1e6:.2f} MB")
    print(f"opening the link: from the arrival of the data to both grids on the screen {max(painted) - at:.0f} ms")


def hover(page: Page) -> None:
    """Move the pointer over the first grid, and where nothing follows it, and print how long the frames took."""
    rest = moved(page, "h1")
    over = moved(page, "canvas.over")
    beside = page.locator(".pair canvas").count()
    assert beside == 2, f"the pointer shows {beside} images, expected 2"
    print("from a movement of the pointer to the frame that follows, median and 95% within:")
    print(f"  over the grid, with both images {statistics.median(over):.0f} ms, {over[int(0.95 * len(over))]:.0f} ms")
    print(f"  over the title, a bare frame    {statistics.median(rest):.0f} ms, {rest[int(0.95 * len(rest))]:.0f} ms")


def moved(page: Page, where: str) -> list[float]:
    """Milliseconds from each movement over an element to its frame, sorted."""
    box = page.locator(where).first.bounding_box()
    assert box is not None
    page.evaluate("clocks.moved.length = 0")
    for move in range(MOVES):
        x, y = (0.1 + 0.8 * ((move * step) % MOVES) / MOVES for step in (7, 11))
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.wait_for_timeout(30)
    times: list[float] = page.evaluate("clocks.moved")
    return sorted(times)


def select(page: Page) -> None:
    """Click an image, and print how long the grids took once the data of the new run had come."""
    box = page.locator("canvas.over").first.bounding_box()
    assert box is not None
    page.evaluate("clocks.arrived.length = clocks.painted.length = 0")
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"])
    page.locator(".near button").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1000)
    arrived, painted = page.evaluate("[clocks.arrived, clocks.painted]")
    at, size = max((entry for entry in arrived), key=lambda entry: entry[1])
    print(f"selecting an image: {size / 1e6:.2f} MB; from their arrival to the screen {max(painted) - at:.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
