"""A local S3 server, and a proxy before it that gets into trouble when it is told to."""

import http.client
import json
import logging
import random
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from moto.server import ThreadedMotoServer

KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
ANSWERS = {"slow down": (503, "SlowDown"), "internal": (500, "InternalError")}
TROUBLE = (*ANSWERS, "dropped", "lost", "cut")
"""An error before or after the request had its effect (`internal`: after); no answer, before or
after it (`lost`); half of an answer."""


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of a server on this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def gs_server(bucket: str) -> Iterator[str]:
    """The endpoint of an emulator of Google's storage that has one bucket."""
    pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket=bucket)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def new_bucket(endpoint: str) -> str:
    """The name of a new, empty bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    _client(endpoint).create_bucket(Bucket=name)
    return name


@cache
def _client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        region_name="us-east-1",
    )


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server; counts them, and gets into trouble with a ``share`` of them.

    next: trouble of the next requests, before chance is asked. hold: of each request, whether it is
    kept waiting; `held` is set once one is. Writes are passed on one at a time: moto looks for an
    object and writes it in two steps. A Google emulator does not look at all: see `_refused`.
    """

    daemon_threads = True

    def __init__(self, endpoint: str, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self._seed = endpoint.removeprefix("http://"), seed
        self.hold: Callable[[str, str], bool] = lambda method, path: False
        self.held, self.let_go = threading.Event(), threading.Event()
        self.writing, self._lock = threading.Lock(), threading.Lock()
        self.forget()

    def forget(self) -> None:
        """No trouble, and nothing counted yet."""
        self.share = 0.0
        self.next: list[str] = []
        self.requests: Counter[tuple[str, str]] = Counter()
        self.trouble: Counter[str] = Counter()
        self._chance = random.Random(self._seed)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def draw(self, method: str, path: str) -> str:
        """The trouble of one request; empty for none."""
        with self._lock:
            self.requests[method, path.partition("?")[0]] += 1
            chosen = self.next.pop(0) if self.next else ""
            if not chosen and self._chance.random() < self.share:
                chosen = self._chance.choice(TROUBLE)
            self.trouble[chosen] += 1
            return chosen

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is none."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.hold(self.command, self.path):
            self.server.held.set()
            self.server.let_go.wait()
        trouble = self.server.draw(self.command, self.path)
        if trouble == "slow down":
            return self._error(trouble)
        if trouble == "dropped":
            return self._drop()
        status, headers, content = self._passed_on(body)
        if trouble == "internal":
            return self._error(trouble)
        if trouble == "lost":
            return self._drop()
        half = trouble == "cut" and len(content) > 1
        self._answer(status, headers, content[: len(content) // 2] if half else content)
        if half:
            self._drop()
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815  (http.server's names)

    def _refused(self, body: bytes) -> bool:
        """Whether Google would refuse this: a conditional write of an object that is there."""
        if "ifGenerationMatch=0" not in self.path:
            return False
        name = json.loads(body.split(b"\n\n")[1].partition(b"\n")[0])["name"]
        bucket = self.path.partition("/b/")[2].partition("/")[0]
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        connection.request("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}")
        found = connection.getresponse().status == 200
        connection.close()
        return found

    def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        apart = ("connection", "expect", "host")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in apart}
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            if self.command in ("PUT", "POST"):
                with self.server.writing:
                    if self._refused(body):
                        content = b'{"error": {"code": 412, "message": "conditionNotMet"}}'
                        return 412, [("Content-Type", "application/json")], content
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
            else:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _error(self, trouble: str) -> None:
        status, code = ANSWERS[trouble]
        text = f"<Error><Code>{code}</Code><Message>{code}, please</Message></Error>".encode()
        content = b"" if self.command == "HEAD" else text
        self._answer(status, [("Content-Length", str(len(content)))], content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _drop(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def proxy(endpoint: str, seed: int = 0) -> Iterator[Proxy]:
    """A proxy that is passing requests on."""
    with Proxy(endpoint, seed) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.let_go.set()
            found.shutdown()
            thread.join()
