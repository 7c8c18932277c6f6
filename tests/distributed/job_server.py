"""A head's job interface without a cluster: what it is told to answer, and what it was sent.

Speaks what Ray's own client asks of a dashboard (versions, packages, jobs, the log as a websocket
that starts at the log's beginning), so that connections can be cut at will.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

End = tuple[str, int | None]


@dataclass
class JobServer:
    """Answers for the jobs that are submitted to it.

    ends: (status, exit code) of each job in the order of submission; one that is not in it, and one
    whose status is RUNNING, goes on for ever.
    log: of every job. cuts: characters after which each next connection to a log is cut.
    forgets: after this many jobs have ended, the head is started anew and knows none.
    unwell: of the questions after a job was sent, how many are answered with an error first.
    token: what a client has to send. agent: whether there is one to run a job.
    """

    ends: list[End] = field(default_factory=list)
    log: str = "one\ntwo\nthree\n"
    cuts: list[int] = field(default_factory=list)
    forgets: bool = False
    unwell: int = 0
    token: str | None = None
    agent: bool = True
    address: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    packages: dict[str, bytes] = field(default_factory=dict)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, name: str, status: str) -> None:
        """A job that is there already."""
        self.jobs[name] = {"submission_id": name, "type": "SUBMISSION", "status": status}
        self.jobs[name] |= {"entrypoint": "python", "driver_exit_code": None, "message": "as told"}

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": ""})

    async def package(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if request.method == "PUT":
            self.packages[name] = await request.read()
        return web.Response(status=200 if name in self.packages else 404)

    async def listed(self, request: web.Request) -> web.Response:
        if self.unwell and self.sent:
            self.unwell -= 1
            return web.Response(status=500, text="Traceback:\nRuntimeError: not now")
        return web.json_response(list(self.jobs.values()))

    async def submitted(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["submission_id"]
        if not self.agent:
            said = "No available agent to submit job, please try again later."
            return web.Response(status=500, text=said)
        if name in self.jobs:
            return web.Response(status=500, text=f"Traceback:\nValueError: {name} already exists")
        self.sent.append(body)
        self.add(name, "RUNNING")
        return web.json_response({"job_id": name, "submission_id": name})

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        name = request.match_info["name"]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        text = self.log[: self.cuts[0]] if self.cuts else self.log
        for start in range(0, len(text), 5):
            await socket.send_str(text[start : start + 5])
        if self.cuts:
            self.cuts.pop(0)
            assert request.transport is not None
            request.transport.abort()
            return socket
        await self._end(name)
        return socket

    async def _end(self, name: str) -> None:
        number = [body["submission_id"] for body in self.sent].index(name) if self.sent else 0
        status, code = self.ends[number] if number < len(self.ends) else ("RUNNING", None)
        if status == "RUNNING":
            await self.closing.wait()
            return
        self.jobs[name] |= {"status": status, "driver_exit_code": code}
        if self.forgets:
            self.jobs.clear()
            self.forgets = False

    @web.middleware
    async def authorized(self, request: web.Request, handler: Any) -> web.StreamResponse:
        said = request.headers.get("authorization")
        if self.token is not None and said != f"Bearer {self.token}":
            return web.Response(status=403 if said else 401, text="Invalid" if said else "Missing")
        answer: web.StreamResponse = await handler(request)
        return answer

    def application(self) -> web.Application:
        """The routes of Ray's dashboard that its client asks."""
        app = web.Application(middlewares=[self.authorized], client_max_size=2**26)
        app.router.add_get("/api/version", self.version)
        app.router.add_route("*", "/api/packages/{protocol}/{name}", self.package)
        app.router.add_get("/api/jobs/", self.listed)
        app.router.add_post("/api/jobs/", self.submitted)
        app.router.add_get("/api/jobs/{name}/logs/tail", self.tail)
        return app


@contextmanager
def serving(server: JobServer) -> Iterator[JobServer]:
    """The server on a free port of the loopback, in a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(server.application(), shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield server
    loop.call_soon_threadsafe(server.closing.set)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert not thread.is_alive()
