"""A fake vLLM server: the routes that benchlib uses, with ratings drawn from a hash of the prompt.

In a test: `async with FakeVllm(api_key="k") as fake: ... fake.address`. From a synchronous test:
`with fake_vllm_process("--latency", "0.05") as address: ...`. From a shell:
`python -m tests.fake_vllm --port 8000`; it prints its address and serves until it is stopped.

What it can do is set by `FakeSettings`; what goes wrong by a script of `Fault`s, one for each
request to a chat route in turn, handed to the constructor or put to `POST /fake/script`. `GET
/fake/state` returns what was asked. Answers are put together from prepared bytes, so that the fake
costs little compared with the program it serves.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

import orjson
from aiohttp import web

from tests.fake_answers import DIGIT_IDS, FakeAnswers, FakeSettings, Fault

_PREFIX_TOKEN_ID = 29871


class FakeVllm:
    """The server; an asynchronous context manager that listens on a free port of 127.0.0.1."""

    def __init__(
        self,
        settings: FakeSettings | None = None,
        faults: Sequence[Fault] = (),
        port: int = 0,
        **changes: Any,
    ) -> None:
        self.settings = replace(settings or FakeSettings(), **changes)
        self.faults: deque[Fault] = deque()
        self.script(*faults)
        self.port = port
        self.address = ""
        self.counts: Counter[str] = Counter()
        self.n_items = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.n_waiting = 0
        self._slots = asyncio.Semaphore(self.settings.slots or 1_000_000)
        self.seen: deque[tuple[str, dict[str, Any]]] = deque(maxlen=2000)
        self._answers = FakeAnswers(self.settings)
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    def script(self, *faults: Fault) -> None:
        """Append to what will go wrong."""
        for fault in faults:
            self.faults.extend([replace(fault, times=1)] * fault.times)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; a server that was stopped listens on its old port again."""
        self._closing.clear()
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/health", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/chat/completions/batch", self._chat)
        app.router.add_post("/fake/script", self._script)
        app.router.add_get("/fake/state", self._state)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.address = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Close all connections and the port."""
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- small routes -----------------------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.Response:
        self.counts["/health"] += 1
        return web.Response(status=200 if self.settings.healthy else 503)

    async def _version(self, _: web.Request) -> web.Response:
        if self.settings.version is None:
            return _no_such_route()
        return _json({"version": self.settings.version})

    async def _models(self, request: web.Request) -> web.Response:
        self.counts["/v1/models"] += 1
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        if not self.settings.models:
            return _no_such_route()
        if not self.settings.healthy:
            return _error(503, "The engine is dead", "ServiceUnavailable")
        cards = []
        for name in (self.settings.model, *self.settings.other_models):
            card: dict[str, Any] = {
                "id": name,
                "object": "model",
                "owned_by": self.settings.owned_by,
            }
            if self.settings.root is not None:
                card |= {"root": self.settings.root, "parent": None}
            if self.settings.max_model_len is not None:
                card |= {"max_model_len": self.settings.max_model_len}
            cards.append(card)
        return _json({"object": "list", "data": cards})

    async def _tokenize(self, request: web.Request) -> web.Response:
        if not self.settings.tokenize:
            return _no_such_route()
        prompt = orjson.loads(await request.read())["prompt"]
        ids = {text: number for number, text in DIGIT_IDS.items()}
        tokens = [ids.get(letter, 1000 + ord(letter)) for letter in prompt]
        if self.settings.prefix_token:
            tokens.insert(0, _PREFIX_TOKEN_ID)
        return _json({"count": len(tokens), "max_model_len": 4096, "tokens": tokens})

    async def _metrics(self, _: web.Request) -> web.Response:
        if not self.settings.metrics:
            return _no_such_route()
        labels = f'{{engine="0",model_name="{self.settings.model}"}}'
        lines = ["# HELP vllm:num_requests_running Running.", "# TYPE x gauge"]
        for name, value in {
            "num_requests_running": self.in_flight - self.n_waiting,
            "num_requests_waiting": self.n_waiting,
            "prefix_cache_queries_total": 100 * self.n_items,
            "prefix_cache_hits_total": 58 * self.n_items,
            "prompt_tokens_total": 170 * self.n_items,
            "generation_tokens_total": self.n_items,
            "num_preemptions_total": 0,
        }.items():
            lines.append(f"vllm:{name}{labels} {float(value)}")
        return web.Response(text="\n".join(lines) + "\n")

    async def _script(self, request: web.Request) -> web.Response:
        """Take `{"faults": [...], "settings": {...}, "clear": true}`."""
        order = orjson.loads(await request.read())
        if order.get("clear"):
            self.faults.clear()
        self.script(*(Fault(**fault) for fault in order.get("faults", ())))
        for name, value in order.get("settings", {}).items():
            if name not in {known.name for known in fields(FakeSettings)}:
                return _error(400, f"There is no setting {name}", "BadRequest")
            setattr(self.settings, name, value)
        return await self._state(request)

    async def _state(self, _: web.Request) -> web.Response:
        prompts = self._answers.prompts
        return _json(
            {
                "counts": self.counts,
                "n_items": self.n_items,
                "in_flight": self.in_flight,
                "max_in_flight": self.max_in_flight,
                "faults_left": len(self.faults),
                "prompts": len(prompts),
                "repeated": {text: times for text, times in prompts.items() if times > 1},
            }
        )

    def _refusal(self, request: web.Request) -> web.Response | None:
        key = self.settings.api_key
        if key is not None and request.headers.get("Authorization") != f"Bearer {key}":
            return web.Response(
                body=b'{"error":"Unauthorized"}', status=401, content_type="application/json"
            )
        return None

    # -- chat -------------------------------------------------------------------------------------

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        settings = self.settings
        self.counts[request.path] += 1
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        batch = request.path.endswith("/batch")
        if batch and not settings.batch:
            return _no_such_route()
        body = await request.read()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            limit = settings.queue_full_above
            if limit is not None and self.in_flight > limit:
                return _error(429, "Too many requests", "TooManyRequests", "0")
            fault = self.faults.popleft() if self.faults else None
            if fault is not None:
                early = await self._break(fault)
                if early is not None:
                    return early
            while settings.holds is not None and settings.holds():
                await asyncio.sleep(0.01)
            if settings.latency_seconds:
                await self._work(settings)
            order = orjson.loads(body)
            conversations = order["messages"] if batch else [order["messages"]]
            if settings.record:
                self.seen.append((request.path, order))
            problem = self._problem(order, conversations, batch)
            if problem is not None:
                return problem
            payload = self._answers.body(order, conversations, fault)
            self.n_items += len(conversations)
            if fault is not None and fault.kind == "reset":
                return await _break_off(request, payload)
            if fault is not None and fault.kind == "truncated":
                payload = payload[: len(payload) // 2]
            return web.Response(body=payload, content_type="application/json")
        finally:
            self.in_flight -= 1

    async def _work(self, settings: FakeSettings) -> None:
        """Take the time an answer takes, in turn where slots are limited."""
        self.n_waiting += 1
        async with self._slots:
            self.n_waiting -= 1
            await asyncio.sleep(settings.latency_seconds)

    async def _break(self, fault: Fault) -> web.Response | None:
        if fault.kind == "status":
            return _error(fault.status, fault.message, "ScriptedFault", fault.retry_after)
        if fault.kind == "html":
            return web.Response(text="<html>Hello</html>", content_type="text/html")
        if fault.kind == "redirect":
            return web.Response(status=307, headers={"Location": fault.location})
        if fault.kind == "hang":
            await self._closing.wait()
            return _error(503, "Closing", "ServiceUnavailable")
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        return None

    def _problem(
        self, order: dict[str, Any], conversations: list[list[dict[str, str]]], batch: bool
    ) -> web.Response | None:
        settings = self.settings
        if order.get("model") not in (settings.model, *settings.other_models):
            return _error(
                404,
                f"The model `{order.get('model')}` does not exist. "
                f"Valid aliases: {settings.model}.",
                "NotFoundError",
            )
        if batch and settings.refuses_batch_fields and order.get("logprob_token_ids"):
            return _error(400, "Unexpected field logprob_token_ids", "BadRequestError")
        for conversation in conversations:
            text = conversation[-1]["content"]
            if len(conversation) > 1 and not settings.system_role:
                return _error(400, "System role not supported", "BadRequestError")
            if settings.poison in text:
                return _error(settings.poison_status, "This prompt is poisoned", "BadRequestError")
            if len(text) > settings.longest_prompt:
                return _error(
                    400, "This model's maximum context length is 4096 tokens", "BadRequestError"
                )
        return None


async def _break_off(request: web.Request, payload: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(payload)
    await response.prepare(request)
    await response.write(payload[: len(payload) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def _no_such_route() -> web.Response:
    return web.Response(body=b'{"detail":"Not Found"}', status=404, content_type="application/json")


def _error(status: int, message: str, kind: str, retry_after: str | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps({"error": {"message": message, "type": kind, "code": status}}),
        status=status,
        content_type="application/json",
        headers={} if retry_after is None else {"Retry-After": retry_after},
    )


@contextmanager
def fake_vllm_process(*arguments: str) -> Iterator[str]:
    """A fake in a process of its own; yields its address, ends it on leaving."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fake_vllm", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"The fake server ended with {process.wait()} before it listened.")
        yield address
    finally:
        process.terminate()
        process.communicate()


async def _serve(fake: FakeVllm) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with fake:
        print(fake.address, flush=True)
        await stop.wait()


def main() -> None:
    """Serve from a shell."""
    parser = argparse.ArgumentParser(prog="python -m tests.fake_vllm", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--model", default="fake-model")
    parser.add_argument("--api-key")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per request")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="any setting, for example batch=false",
    )
    parser.add_argument("--faults", default="[]", help='JSON, e.g. [{"kind": "hang", "times": 2}]')
    given = parser.parse_args()
    changes = {
        name: orjson.loads(value)
        for name, _, value in (setting.partition("=") for setting in given.set)
    }
    settings = FakeSettings(
        **{
            "model": given.model,
            "api_key": given.api_key,
            "latency_seconds": given.latency,
            **changes,
        }
    )
    faults = [Fault(**fault) for fault in orjson.loads(given.faults)]
    asyncio.run(_serve(FakeVllm(settings, faults, port=given.port)))


if __name__ == "__main__":
    main()
