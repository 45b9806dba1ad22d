"""How long a connection may stay open while its request does not come."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from serving.guard import Receive, Scope, Send
from serving.protocol import LimitedProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that answers without a look at the body, and waits for 0.3 s where it has limits."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.protocol.HEAD_SECONDS", 0.3)
        patch.setattr("serving.protocol.BODY_SECONDS", 0.3)
        config = uvicorn.Config(
            answer, port=0, http=LimitedProtocol, ws="none", lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    "later",
    [b"x", b"xxx", b"xxx\r\n", b"xxx\r\n\r\n", b"xxxP", b"xxx" + HEAD, b"xxx" + HEAD + b"x"],
    ids=repr,
)
def test_what_comes_after_an_answer_holds_no_connection(port: int, later: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=3) as client:
        client.sendall(HEAD)
        assert client.recv(65536).startswith(b"HTTP/1.1 204")
        client.sendall(later)
        while client.recv(65536):
            pass


def test_a_connection_goes_on_while_requests_come(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=3) as client:
        for _ in range(5):
            client.sendall(HEAD + b"xxx")
            assert client.recv(65536).startswith(b"HTTP/1.1 204")
            time.sleep(0.2)
