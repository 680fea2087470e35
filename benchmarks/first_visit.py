"""What the first visitors after a start of the dashboard wait for.

Run ``python -m benchmarks.first_visit [VISITORS] [LOADED]``. It starts the server, opens VISITORS sessions on the first
page at once (1 when not given) as soon as the server answers, or LOADED seconds later, and speaks Streamlit's protocol
as a browser does, the polling of fragments included. Times are in seconds from the connection: to the title (a heading
of level 1), to the first map of a model, and to the last message after which nothing is on its way.
"""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

ROOT = Path(__file__).parents[1]
QUIET = 3.0
MOST = 180.0


@dataclass
class Visit:
    """Seconds from the connection, None for what never came, and the script runs that it took."""

    title: float | None = None
    map: float | None = None
    settled: float | None = None
    runs: int = 0


async def visit(port: int) -> Visit:
    """One visit until nothing has come for a while and nothing polls."""
    found, began = Visit(), time.perf_counter()
    polling: dict[str, asyncio.Task[None]] = {}
    seen: dict[str, bytes] = {}

    def now() -> float:
        return time.perf_counter() - began

    async with websockets.connect(
        f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=["streamlit"], max_size=None,
        origin=f"http://127.0.0.1:{port}", open_timeout=MOST, ping_interval=None,
    ) as connection:  # fmt: skip

        async def poll(fragment: str, interval: float) -> None:
            while True:
                await asyncio.sleep(interval)
                again = BackMsg()
                again.rerun_script.fragment_id = fragment
                again.rerun_script.is_auto_rerun = True
                await connection.send(again.SerializeToString())

        first = BackMsg()
        first.rerun_script.query_string = ""
        await connection.send(first.SerializeToString())
        while now() < MOST:
            try:
                data = await asyncio.wait_for(connection.recv(), QUIET)
            except TimeoutError:
                if polling or found.map is None:
                    continue
                break
            message = ForwardMsg()
            message.ParseFromString(data)
            kind = message.WhichOneof("type")
            if kind == "ref_hash":
                data, kind = seen.get(message.ref_hash, b""), "delta"
            elif message.metadata.cacheable:
                seen[message.hash] = data
            if kind == "new_session":
                found.runs += 1
                if not message.metadata.run.fragment_ids:
                    for task in polling.values():
                        task.cancel()
                    polling.clear()
            if kind == "auto_rerun":
                one = message.auto_rerun
                if one.fragment_id not in polling:
                    polling[one.fragment_id] = asyncio.create_task(poll(one.fragment_id, one.interval))
            for fragment in message.stop_auto_rerun.fragment_ids:
                if fragment in polling:
                    polling.pop(fragment).cancel()
            if kind == "delta":
                found.settled = now()
                if found.title is None and message.delta.new_element.heading.tag == "h1":
                    found.title = now()
                if found.map is None and b"data:image/png" in data:
                    found.map = now()
        for task in polling.values():
            task.cancel()
    return found


async def together(port: int, visitors: int) -> list[Visit]:
    return await asyncio.gather(*(visit(port) for _ in range(visitors)))


def seconds_of(process: int) -> float:
    """Processor time that a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def line(name: str, values: list[float]) -> str:
    ordered = sorted(values)
    middle, last = statistics.median(ordered), ordered[-1]
    return f"  {name:8s} median {middle:6.2f} s   last {last:6.2f} s"


def main() -> None:
    visitors = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    loaded = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/Home.py", "--server.port", str(port)]
    began = time.perf_counter()
    server = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.05)
        up = time.perf_counter() - began
        time.sleep(loaded)
        before = seconds_of(server.pid)
        visits = asyncio.run(together(port, visitors))
        spent = seconds_of(server.pid) - before
        print(f"{visitors} visitors; the server answers after {up:.2f} s")
        for name in ("title", "map", "settled"):
            times = [value for one in visits if (value := getattr(one, name)) is not None]
            print(line(name, times) if len(times) == visitors else f"  {name}: came to {len(times)} of {visitors}")
        runs = statistics.mean(one.runs for one in visits)
        print(f"  {runs:.1f} script runs a visitor, {spent:.1f} s of processor time")
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
