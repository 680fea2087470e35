"""The real dashboard, started as a user starts it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def dashboard(folder: Path) -> Iterator[int]:
    """Give the port of a dashboard whose hub is a port where nobody answers; its output goes to ``folder / "log"``.

    Results of runs are looked for in ``folder / "runs"``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = {"DASHBOARD_RUNS": str(folder / "runs")}
    environment = {**os.environ, **runs, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(folder / "hub")}
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/Home.py", "--server.port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(60)
