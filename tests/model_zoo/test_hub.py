"""The hub, stood in for by a local HTTP server: each case in a fresh process, which is when the address is read."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from model_zoo import hub as hub_module
from model_zoo.reference import ModelError

ROOT = Path(__file__).parents[2]
MODEL = "timm:test_vit.r160_in1k"
# Loads the model and prints what became of it, with the progress that was told on the way.
LOAD = f"""
import json, sys, time
from model_zoo.loading import load
from model_zoo.reference import ModelError
start, told = time.monotonic(), []
try:
    adapter = load({MODEL!r}, device="cpu", on_progress=lambda *step: told.append(step))
    said = float(adapter.module.norm.weight.sum())
except ModelError as error:
    said = str(error)
print(json.dumps([said, time.monotonic() - start, told]))
"""


@dataclass
class Hub:
    """One repository with one file, and how its transfers go wrong."""

    content: bytes
    breaks: int = 0  # so many transfers end halfway through what they should send
    silent: bool = False  # the connection stands, and nothing comes
    status: int = 200
    pause: float = 0.0  # seconds before each piece
    served: bytes | None = None  # what comes instead of the content whose ETag is told
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    torch.manual_seed(3)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "model.safetensors")
    return (tmp_path / "model.safetensors").read_bytes()


@pytest.fixture
def hub(content: bytes) -> Iterator[Hub]:
    state = Hub(content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            span = self.headers.get("Range")
            state.asked.append((self.command, self.path, span))
            if state.silent:
                time.sleep(30)
            start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
            known = self.path == "/timm/test_vit.r160_in1k/resolve/main/model.safetensors"
            status = state.status if known or state.status != 200 else 404
            piece = (state.served or state.content)[start:] if status == 200 else b""
            self.send_response(206 if span and status == 200 else status)
            self.send_header("ETag", f'"{hashlib.sha256(state.content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(piece)))
            if status == 404:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if not body:
                return
            if state.breaks:
                state.breaks -= 1
                self.wfile.write(piece[: len(piece) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            for i in range(0, len(piece), 2**18):
                time.sleep(state.pause)
                self.wfile.write(piece[i : i + 2**18])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., tuple[Any, float, list[tuple[str, int, int | None]]]]:
    """Loads the model from the hub at an address, in a process with a cache of its own for the test."""

    def run(address: str, before: str = "") -> tuple[Any, float, list[tuple[str, int, int | None]]]:
        environment = os.environ | {
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "cache"),
            "PYTHONWARNINGS": "error",
        }
        done = subprocess.run(
            [sys.executable, "-c", before + LOAD],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stderr == ""
        assert done.returncode == 0
        said, seconds, told = json.loads(done.stdout)
        return said, seconds, [tuple(step) for step in told]

    return run


def expected(content: bytes, tmp_path: Path) -> float:
    return float(load_file(tmp_path / "model.safetensors")["norm.weight"].sum())


def test_weights_come_once_and_then_from_the_cache(hub: Hub, load: Any, content: bytes, tmp_path: Path) -> None:
    hub.pause = 0.3
    said, _, told = load(hub.address)
    assert said == expected(content, tmp_path)
    done = [step for stage, step, _ in told if stage == "download"]
    assert done == sorted(done)
    assert any(0 < step < len(content) for step in done), "progress is told on the way"
    assert {total for stage, _, total in told if stage == "download" and total} == {len(content)}
    assert all(path.startswith("/timm/test_vit.r160_in1k/") for _, path, _ in hub.asked), "nothing else is asked for"

    hub.asked.clear()
    said, _, told = load(hub.address)
    assert said == expected(content, tmp_path)
    assert hub.asked == []
    assert [stage for stage, _, _ in told] == ["build", "build"]


def test_a_broken_transfer_goes_on_where_it_broke(hub: Hub, load: Any, content: bytes, tmp_path: Path) -> None:
    hub.breaks = 2
    said, _, _ = load(hub.address)
    assert said == expected(content, tmp_path)
    spans = [span for method, _, span in hub.asked if method == "GET"]
    starts = [int(span.removeprefix("bytes=").removesuffix("-")) if span else 0 for span in spans]
    half = len(content) // 2
    assert len(starts) == 3
    assert starts[0] == 0
    assert half - 2**16 <= starts[1] <= half
    assert starts[1] < starts[2] < len(content)


def assert_shows_a_way_on(said: Any, seconds: float) -> None:
    assert isinstance(said, str)
    assert "does not answer: use a shipped model" in said
    assert "timm:NAME@FILE" in said
    assert "@random:0" in said
    assert "\n" not in said
    assert seconds < 10


def test_no_network_is_told_within_ten_seconds(load: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        said, seconds, _ = load(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert_shows_a_way_on(said, seconds)


def test_a_hub_that_stays_silent_is_given_up_within_ten_seconds(hub: Hub, load: Any) -> None:
    hub.silent = True
    said, seconds, _ = load(hub.address)
    assert_shows_a_way_on(said, seconds)


def test_a_repository_without_the_weights_is_told(hub: Hub, load: Any) -> None:
    hub.status = 404
    said, seconds, _ = load(hub.address)
    assert "holds none of model.safetensors, pytorch_model.bin" in said
    assert seconds < 10


def test_a_refusal_is_told(hub: Hub, load: Any) -> None:
    hub.status = 403
    said, seconds, _ = load(hub.address)
    assert "refused" in said
    assert "403" in said
    assert seconds < 10


FULL = """
import shutil
usage = shutil.disk_usage
shutil.disk_usage = lambda path: usage(path)._replace(free=1000)
"""


def test_a_file_that_the_disk_has_no_room_for_is_not_begun(hub: Hub, load: Any, tmp_path: Path) -> None:
    said, _, told = load(hub.address, FULL)
    place = tmp_path / "cache" / "hub"
    assert said == (
        f"The weights of timm/test_vit.r160_in1k are 1.5 MB, and the disk of {place} has 0.0 MB free: make room."
    )
    assert all(done == 0 for stage, done, _ in told if stage == "download")


def half_of_it_lost(content: bytes) -> bytes:
    """As many bytes, and a header that can be read."""
    half = len(content) // 2
    return content[:half] + b"\xff" * (len(content) - half)


def assert_names_what_to_delete(said: Any, content: bytes, tmp_path: Path) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    link, blob = (tmp_path / "cache").rglob("model.safetensors"), (tmp_path / "cache").rglob(digest)
    paths = [*link, *blob]
    assert len(paths) == 2
    assert isinstance(said, str)
    assert "damaged" in said
    assert all(str(path) in said for path in paths)
    assert "\n" not in said
    for path in paths:
        assert path.is_relative_to(tmp_path)
    return paths[1]


def test_a_download_is_compared_with_its_etag(hub: Hub, load: Any, content: bytes, tmp_path: Path) -> None:
    hub.served = half_of_it_lost(content)
    said, _, _ = load(hub.address)
    blob = assert_names_what_to_delete(said, content, tmp_path)

    hub.served = None
    said, _, _ = load(hub.address)
    assert_names_what_to_delete(said, content, tmp_path)  # still there, and still no result
    next((tmp_path / "cache").rglob("model.safetensors")).unlink()
    blob.unlink()
    said, _, _ = load(hub.address)
    assert said == expected(content, tmp_path)


def test_a_file_that_was_damaged_in_the_cache_is_told(hub: Hub, load: Any, content: bytes, tmp_path: Path) -> None:
    said, _, _ = load(hub.address)
    assert said == expected(content, tmp_path)
    blob = next((tmp_path / "cache").rglob(hashlib.sha256(content).hexdigest()))
    blob.write_bytes(half_of_it_lost(content))
    said, _, _ = load(hub.address)
    assert_names_what_to_delete(said, content, tmp_path)


def test_a_cached_file_is_compared_once_and_again_when_it_changed(tmp_path: Path) -> None:
    content = b"weights" * 1000
    blob = tmp_path / hashlib.sha256(content).hexdigest()
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    blob.write_bytes(content)
    os.utime(blob, ns=(10**18, 10**18))
    hub_module._verify(link, "a/b")
    blob.write_bytes(content[::-1])
    os.utime(blob, ns=(10**18, 10**18))
    hub_module._verify(link, "a/b")  # the same size and time: not read again
    os.utime(blob, ns=(10**18, 10**18 + 1))
    with pytest.raises(ModelError, match="damaged"):
        hub_module._verify(link, "a/b")
