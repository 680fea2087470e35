"""What stands before Streamlit: which names the server answers to, and the headers of its answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnected

from dashboard import starting

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "content-security-policy": "frame-ancestors 'self'",
    "referrer-policy": "same-origin",
}


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[dict[str, object]]:
    """Begin to load as soon as the server starts, before anyone visits."""
    starting.load(first_page=True)
    yield {}


def middleware() -> list[Middleware]:
    """What every request and every WebSocket passes, from the outside."""
    names = hosts(st.get_option("server.address"), st.get_option("server.allowedHosts"))
    return [Middleware(Headers), Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)]


def hosts(address: str | None, allowed: list[str]) -> list[str]:
    """Names in the ``Host`` header that are answered.

    A page of another site can let its own name point to this machine and then counts as the same origin. A server that
    only this machine reaches therefore answers to this machine's names alone.

    Args:
        address: what the server is bound to; None for every interface.
        allowed: ``server.allowedHosts``; where it names hosts, they count.
    """
    if allowed:
        return list(allowed)
    if address and (address == "localhost" or ip_address(address).is_loopback):
        return list(dict.fromkeys((*LOCAL_NAMES, address)))
    return ["*"]


class Headers:
    """Adds `HEADERS` to every answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with suppress(WebSocketDisconnected):  # a browser that left while the server was closing its connection
            await self.app(scope, receive, with_headers)
