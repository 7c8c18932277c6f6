"""A stand-in for AWS's instance metadata service (version 2) on this machine, for the tests."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "a-token"


@dataclass
class Service:
    """What the service answers, and how often it was asked.

    ends: when the instance ends, seconds since 1970; None without a notice.
    status: of every answer, where it is not 200: what a service in trouble says.
    """

    url: str = ""
    ends: float | None = None
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, token: str | None) -> tuple[int, str]:
        """Status and body, as AWS's service gives them to version-2 requests alone."""
        self.asked.append(f"{method} {path}")
        if self.status != 200:
            return self.status, "trouble"
        if (method, path) == ("PUT", "/latest/api/token"):
            return 200, TOKEN
        if token != TOKEN:
            return 401, "version 1 is off"
        if path == "/latest/meta-data/spot/instance-action" and self.ends is not None:
            end = datetime.fromtimestamp(self.ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return 200, json.dumps({"action": "terminate", "time": end})
        return 404, "not found"


@contextmanager
def serving() -> Iterator[Service]:
    """The service on a free port of the loopback interface."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            token = self.headers.get("X-aws-ec2-metadata-token")
            status, body = service.answer(self.command, self.path, token)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = _answer  # noqa: N815  (the names that http.server calls)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield service
    server.shutdown()
    server.server_close()


def in_seconds(seconds: float) -> float:
    """A moment from now, in whole seconds since 1970, as a notice has them."""
    return float(int(time.time() + seconds))
