"""A proxy before an MLflow server that does to its calls what networks and servers do; and dumps.

Every behaviour is chosen per call, so that a test can say which answer is lost.
"""

import http.client
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ray_selfloop.tracking.writer import KEY_TAG, PARENT_TAG

SLOW = 5.0  # s for each call
# As MLflow says it; and with what a terminal would take for the end of a style.
REFUSAL = b"Invalid Host header - possible DNS rebinding attack detected [/host]"


@dataclass(frozen=True)
class Call:
    """One call: ``number`` counts from 1, ``repeat`` counts calls with the same content before."""

    number: int
    repeat: int
    path: str


Rule = Callable[[Call], str]


def always(behaviour: str) -> Rule:
    return lambda _: behaviour


class Proxy:
    """Stands before a server on 127.0.0.1.

    Behaviours: ``pass``, ``slow``; done by the server, but ``lose`` (no answer) or ``cut`` (half an
    answer); not done by it: ``hang``, ``drip`` (a byte now and then), ``403``, ``500``.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.rule = always("pass")
        self.calls: list[str] = []
        self.done = threading.Event()
        self._seen: Counter[tuple[str, bytes]] = Counter()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self.port = 0
        self.open()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(self)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """From now on connections are refused."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def behave(self, rule: Rule) -> None:
        with self._lock:
            self.rule = rule
            self.calls = []
            self._seen.clear()

    def next(self, path: str, body: bytes) -> str:
        with self._lock:
            self.calls.append(path)
            call = Call(len(self.calls), self._seen[path, body], path)
            self._seen[path, body] += 1
            return self.rule(call)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", proxy.port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def answer(self) -> None:
        try:
            self._behave(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        except OSError:  # one of the two has gone
            self.close_connection = True

    def _behave(self, body: bytes) -> None:
        proxy = self.server.proxy
        behaviour = proxy.next(self.path, body)
        if behaviour in ("hang", "drip"):
            self._never_answer(b"HTTP/1.0 200 OK\r\nX: " if behaviour == "drip" else b"")
            return
        if behaviour in ("403", "500"):
            self._send(int(behaviour), REFUSAL if behaviour == "403" else b"broken", 1.0)
            return
        if behaviour == "slow":
            proxy.done.wait(SLOW)
        status, content = self._forward(body)
        if behaviour != "lose":
            self._send(status, content, 0.5 if behaviour == "cut" else 1.0)

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        connection.request(self.command, self.path, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, content

    def _send(self, status: int, content: bytes, share: float) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: round(len(content) * share)])

    def _never_answer(self, drop: bytes) -> None:
        self.wfile.write(drop)
        while not self.server.proxy.done.wait(1.0):
            self.wfile.write(drop[-1:])


for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{verb}", _Handler.answer)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def dump(uri: str, experiment: str) -> dict[str, dict[str, Any]]:
    """Everything that an experiment's runs hold, without MLflow's ids: key -> what its run has.

    Histories are lists, so that a number written twice is seen.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert found.token is None
    keys = {run.info.run_id: run.data.tags[KEY_TAG] for run in found}
    assert len(set(keys.values())) == len(keys), "one run for each key"
    return {run.data.tags[KEY_TAG]: _dumped(client, run, keys) for run in found}


def _dumped(client: Any, run: Any, keys: dict[str, str]) -> dict[str, Any]:
    tags = dict(run.data.tags)
    if PARENT_TAG in tags:
        tags[PARENT_TAG] = keys[tags[PARENT_TAG]]
    points = [
        (key, point.step, point.value, point.timestamp)
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    ]
    return {
        "info": (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time),
        "params": dict(run.data.params),
        "tags": tags,
        "points": sorted(points),
        "artifacts": sorted(_files(client, run.info.run_id, None)),
    }


def _files(client: Any, identity: str, folder: str | None) -> list[tuple[str, int]]:
    listed = client.list_artifacts(identity, folder)
    inside = [f for entry in listed if entry.is_dir for f in _files(client, identity, entry.path)]
    return [(entry.path, entry.file_size) for entry in listed if not entry.is_dir] + inside
