"""The real server: whom it answers, with which headers, and what its first visitors see."""

import asyncio
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.websockets import WebSocketDisconnected
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dashboard import serving
from dashboard.state import visitors
from tests import running

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A dashboard that has just started."""
    with running.dashboard(tmp_path_factory.mktemp("server")) as port:
        yield port


def socket_of(port, host, origin):
    return connect(
        f"ws://{host}/_stcore/stream", sock=socket.create_connection(("127.0.0.1", port)), origin=origin,
        subprotocols=["streamlit"], max_size=None, open_timeout=60, ping_interval=None,
    )  # fmt: skip


def begin(connection):
    """Ask for the first page, as a browser does when it has connected."""
    first = BackMsg()
    first.rerun_script.query_string = ""
    connection.send(first.SerializeToString())


def visited(connection):
    """What a visit is sent until its script ends: headings in order, how often its script ran, and all of it."""
    titles, runs, everything = [], 0, b""
    while True:
        data = connection.recv(timeout=120)
        everything += data
        message = ForwardMsg()
        message.ParseFromString(data)
        heading = message.delta.new_element.heading
        if heading.tag == "h1":
            titles.append(heading.body)
        runs += message.WhichOneof("type") == "new_session"
        if message.WhichOneof("type") == "script_finished":
            return titles, runs, everything


def test_visitors_who_come_too_early_see_the_frame_and_run_once(port):
    """Runs first: the server has just started."""
    host = f"127.0.0.1:{port}"
    with ExitStack() as stack:
        connections = [stack.enter_context(socket_of(port, host, f"http://{host}")) for _ in range(3)]
        for connection in connections:
            begin(connection)
        found = [visited(connection) for connection in connections]
    assert found[0][0] == ["Vision transformers side by side", "Where does each model look?"]
    assert [runs for _, runs, _ in found] == [1, 1, 1]
    assert b"data:image/png" in found[0][2], "what the first page shows was computed before it was drawn"


def ask(port, path, host):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/_stcore/metrics", "/_stcore/host-config"])
def test_a_foreign_name_is_not_answered(port, path):
    assert ask(port, path, f"rebound.example:{port}")[0] == 400
    assert ask(port, path, f"localhost:{port}")[0] == 200
    assert ask(port, path, f"127.0.0.1:{port}")[0] == 200


def test_a_foreign_name_opens_no_socket_even_as_its_own_origin(port):
    host = f"rebound.example:{port}"
    with pytest.raises(InvalidStatus) as refused, socket_of(port, host, f"http://{host}"):
        pass
    assert refused.value.response.status_code == 400
    with socket_of(port, f"localhost:{port}", f"http://localhost:{port}") as connection:
        begin(connection)
        assert connection.recv(timeout=60)


@pytest.mark.parametrize("path", ["/", "/_stcore/health"])
def test_answers_may_neither_be_guessed_at_nor_framed_elsewhere(port, path):
    headers = ask(port, path, f"localhost:{port}")[1]
    for name, value in serving.HEADERS.items():
        assert headers.get_all(name) == [value]


@pytest.mark.parametrize(
    ("address", "allowed", "expected", "refused"),
    [
        ("127.0.0.1", [], "localhost", "rebound.example"),
        ("127.0.0.2", [], "127.0.0.2", "rebound.example"),
        ("localhost", [], "127.0.0.1", "rebound.example"),
        ("::1", [], "[::1]", "rebound.example"),
        ("127.0.0.1", ["vit.example"], "vit.example", "localhost"),
        ("0.0.0.0", [], "*", "localhost"),
        (None, [], "*", "localhost"),
    ],
)
def test_the_names_follow_what_the_server_is_bound_to(address, allowed, expected, refused):
    names = serving.hosts(address, allowed)
    assert expected in names
    assert refused not in names


def test_all_tabs_of_a_browser_have_one_token_though_each_answer_masks_it_anew():
    token = bytes(range(16))
    cookies = [generate_xsrf_token_string(token, 1) for _ in range(2)]
    assert cookies[0] != cookies[1]
    assert visitors._token(cookies[0]) == visitors._token(cookies[1]) == token
    for nonsense in ("", "2|x|y|z", "a|b", "2||00|1"):
        assert isinstance(visitors._token(nonsense), bytes)


def test_a_visitor_is_a_tab_of_a_browser_at_an_address():
    assert visitors.browser("10.0.0.1/abc/tab") == "10.0.0.1/abc"
    assert visitors.address("10.0.0.1/abc/tab") == "10.0.0.1"
    assert visitors.browser("one") == visitors.address("one") == "one"


def test_a_browser_that_leaves_while_it_is_let_go_is_no_fault():
    """Streamlit closes a connection that the browser closed in the same moment; the log is not to fill with that."""

    async def closing(*_):
        raise WebSocketDisconnected("it left")

    with ThreadPoolExecutor(1) as apart:  # from the loop of a browser that other tests of this process drive
        apart.submit(asyncio.run, serving.Headers(closing)({"type": "websocket"}, None, None)).result()
