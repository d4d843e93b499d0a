"""A fake vLLM server: the routes that benchlib uses, with ratings drawn from a hash of the prompt.

In a test: `async with FakeVllm(api_key="k") as fake: ... fake.address`. From a synchronous test:
`with fake_vllm_process("--latency", "0.05") as address: ...`. From a shell:
`python -m tests.fake_vllm --port 8000`; it prints its address and serves until it is stopped.

What it can do is switched by `FakeSettings`; what goes wrong by a script of `Fault`s, one for each
request to a chat route in turn, handed to the constructor or put to `POST /fake/script`. `GET
/fake/state` tells what was asked. Answers are put together from prepared bytes, so that the fake
costs little beside the program it is a fake for.
"""

import argparse
import asyncio
import math
import random
import re
import signal
import subprocess
import sys
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import orjson
from aiohttp import web

DIGIT_IDS = {33: "1", 34: "2", 35: "3", 36: "4", 37: "5"}
_OTHER_TOKEN_ID = 1348
_OTHER_TOKEN = "This"
_PREFIX_TOKEN_ID = 29871
_LOOKALIKE_ID = 29900
_N_KINDS = 1009
_TAIL = b',"stop_reason":null,"token_ids":null,"routed_experts":null}'


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with the next request to a chat route.

    Attributes:
        kind: "status" (answers `status`), "reset" (breaks off in mid-body), "hang" (never answers),
            "truncated" (half of the JSON), "wrong_count" (one choice too few), "shuffle" (choices
            out of order), "nan" (first choice's log-probabilities are NaN), "null" (they are null),
            "missing" (first choice has none), "abort" (first choice's finish_reason is abort),
            "duplicate" (two choices with one index), "slow" (answers after `seconds`), "html" (a
            page with status 200), "redirect" (to `location`), "ok" (nothing).
        times: For how many requests.
    """

    kind: str
    times: int = 1
    status: int = 500
    retry_after: str | None = None
    seconds: float = 0.0
    location: str = "http://127.0.0.1:9/"
    message: str = "Scripted fault"


@dataclass(slots=True)
class FakeSettings:
    """What the fake is and can do.

    A capability that is off behaves as in servers without it: routes answer 404, unknown fields are
    ignored without a word. `prefix_token` gives a tokenizer that puts a token before every text and
    has a second token that looks like "1". `slots` is how many requests are worked on at once; the
    others wait their turn, so that a latency limits the rate as a real engine's steps do. While
    `holds` returns True, no chat request is answered.
    """

    model: str = "fake-model"
    root: str | None = "/models/fake-model"
    other_models: list[str] = field(default_factory=list)
    owned_by: str = "vllm"
    api_key: str | None = None
    version: str | None = "0.32.0"
    max_model_len: int | None = 4096
    healthy: bool = True
    models: bool = True
    tokenize: bool = True
    batch: bool = True
    logprobs: bool = True
    logprob_token_ids: bool = True
    prefix_token: bool = False
    choice: bool = True
    regex: bool = True
    json: bool = True
    response_format: bool = True
    metrics: bool = True
    system_role: bool = True
    thinks: bool = False
    refuses_batch_fields: bool = False
    valid_mass: float = 0.9
    latency_seconds: float = 0.0
    slots: int | None = None
    poison: str = "POISON"
    poison_status: int = 400
    longest_prompt: int = 30_000
    record: bool = False
    queue_full_above: int | None = None
    holds: Callable[[], bool] | None = None


def logprobs_for(prompt: str, valid_mass: float = 0.9) -> list[float]:
    """The log-probabilities of "1".."5" that the fake gives for this user message."""
    return _logprobs(zlib.crc32(prompt.encode()) % _N_KINDS, valid_mass)


def rating_for(prompt: str) -> int:
    """The most likely digit for this user message."""
    logprobs = logprobs_for(prompt)
    return logprobs.index(max(logprobs)) + 1


def _logprobs(kind: int, valid_mass: float) -> list[float]:
    weights = [random.Random(kind * 5 + digit).random() + 0.01 for digit in range(5)]
    return [math.log(valid_mass * weight / sum(weights)) for weight in weights]


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
        self.prompts: Counter[str] = Counter()
        self._fragments: dict[tuple[Any, ...], bytes] = {}
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
        return _json(
            {
                "counts": self.counts,
                "n_items": self.n_items,
                "in_flight": self.in_flight,
                "max_in_flight": self.max_in_flight,
                "faults_left": len(self.faults),
                "prompts": len(self.prompts),
                "repeated": {text: times for text, times in self.prompts.items() if times > 1},
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
            payload = self._answer(order, conversations, fault)
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

    def _answer(
        self, order: dict[str, Any], conversations: list[list[dict[str, str]]], fault: Fault | None
    ) -> bytes:
        mode = self._mode(order)
        fragments = self._fragments
        n_max = order.get("max_tokens") or 16
        parts = []
        record = self.settings.record
        for index, conversation in enumerate(conversations):
            text = conversation[-1]["content"]
            if record:
                self.prompts[text] += 1
            if mode[0] == "text":
                body = self._written(text, n_max)
            else:
                kind = zlib.crc32(text.encode()) % _N_KINDS
                key = (mode, kind)
                known = fragments.get(key)
                if known is None:
                    known = fragments[key] = self._fragment(mode, kind, n_max)
                body = known
            parts.append(b'{"index":%d,' % index + body)
        if fault is not None:
            _spoil(parts, fault)
        n = len(conversations)
        return b"".join(
            (
                b'{"id":"chatcmpl-fake","object":"chat.completion","created":0,"model":',
                orjson.dumps(order["model"]),
                b',"choices":[',
                b",".join(parts),
                b'],"system_fingerprint":',
                orjson.dumps(f"vllm-{self.settings.version}-{self.settings.root}"),
                b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}}'
                % (170 * n, 171 * n, n),
            )
        )

    def _mode(self, order: dict[str, Any]) -> tuple[Any, ...]:
        """How to answer: what the request asks for, as far as the settings know it."""
        settings = self.settings
        wants = order.get("structured_outputs") or {}
        logprobs = bool(order.get("logprobs")) and settings.logprobs
        template_fields = order.get("chat_template_kwargs") or {}
        thinking = settings.thinks and template_fields.get("enable_thinking", True)
        if "choice" in wants and settings.choice and not thinking:
            return ("choice", logprobs, min(order.get("top_logprobs") or 0, 5))
        schema = str(wants.get("regex", "")) if settings.regex else ""
        schema += str(wants.get("json", "")) if settings.json else ""
        if settings.response_format:
            schema += str((order.get("response_format") or {}).get("json_schema", ""))
        if schema:
            return ("rationale" if "rationale" in schema else "rating",)
        ids = order.get("logprob_token_ids")
        if logprobs and ids and settings.logprob_token_ids:
            as_ids = bool(order.get("return_tokens_as_token_ids"))
            mass = 1e-9 if thinking else settings.valid_mass
            return ("ids", tuple(ids), as_ids, mass)
        if order.get("max_tokens") == 1:
            return ("digit", logprobs)
        return ("text",)

    def _fragment(self, mode: tuple[Any, ...], kind: int, n_max: int) -> bytes:
        """One choice without its index."""
        if mode[0] in ("rating", "rationale"):
            value: dict[str, Any] = {"rating": _top(kind)}
            if mode[0] == "rationale":
                value = {"rationale": f"Because of reason {kind}.", **value}
            return _choice(orjson.dumps(value).decode(), "stop", b"null")
        if mode[0] == "choice":
            entries = [
                (str(digit), logprob) for digit, logprob in enumerate(_logprobs(kind, 1.0), 1)
            ]
            entries.sort(key=lambda entry: -entry[1])
            return _choice(entries[0][0], "length", _content(entries) if mode[1] else b"null")
        if mode[0] == "digit":
            entries = [(str(_top(kind)), -0.5)]
            return _choice(entries[0][0], "length", _content(entries) if mode[1] else b"null")
        _, ids, as_ids, mass = mode
        logprobs = _logprobs(kind, mass)
        known = dict(zip(DIGIT_IDS, logprobs, strict=True))
        pairs = [(number, known.get(number, -20.0)) for number in ids]
        if kind % 4:
            pairs.sort(key=lambda pair: pair[1], reverse=True)  # the sampled token comes first
        else:
            other = _LOOKALIKE_ID if self.settings.prefix_token else _OTHER_TOKEN_ID
            pairs.insert(0, (other, -0.1))
        names = {_OTHER_TOKEN_ID: _OTHER_TOKEN, _LOOKALIKE_ID: "1", **DIGIT_IDS}
        entries = [
            (f"token_id:{number}" if as_ids else names.get(number, "?"), logprob)
            for number, logprob in pairs
        ]
        return _choice(names.get(pairs[0][0], "?"), "length", _content(entries))

    def _written(self, prompt: str, n_max: int) -> bytes:
        """An answer nobody constrained."""
        rating = rating_for(prompt)
        if "1 =" not in prompt:
            text = "Hello there, what a fine day it is."
        elif '"rationale"' in prompt:
            text = f'```json\n{{"rationale": "It fits.", "rating": {rating}}}\n```'
        else:
            text = f"Rating: {rating}"
        if self.settings.thinks:
            text = f"<think>Maybe 2, maybe 3.</think>\n{text}"
        return _choice(text[: n_max * 4], "length" if len(text) > n_max * 4 else "stop", b"null")


def _top(kind: int) -> int:
    logprobs = _logprobs(kind, 0.9)
    return logprobs.index(max(logprobs)) + 1


def _choice(text: str, finish_reason: str, logprobs: bytes) -> bytes:
    return b"".join(
        (
            b'"message":{"role":"assistant","content":',
            orjson.dumps(text),
            b',"refusal":null,"annotations":null,"audio":null,"function_call":null,'
            b'"reasoning":null},"logprobs":',
            logprobs,
            b',"finish_reason":',
            orjson.dumps(finish_reason),
            _TAIL,
        )
    )


def _content(entries: list[tuple[str, float]]) -> bytes:
    """The `logprobs` of a choice of one token, whose first entry is the sampled one."""
    shown = [
        {"token": token, "logprob": logprob, "bytes": list(token.encode())}
        for token, logprob in entries
    ]
    return orjson.dumps({"content": [{**shown[0], "top_logprobs": shown}]})


def _spoil(parts: list[bytes], fault: Fault) -> None:
    if fault.kind == "shuffle":
        parts.reverse()
    elif fault.kind == "wrong_count":
        parts.pop()
    elif fault.kind == "duplicate":
        parts[-1] = parts[0]
    elif fault.kind in ("nan", "null"):
        word = b"NaN" if fault.kind == "nan" else b"null"
        parts[0] = re.sub(rb'"logprob":-?[0-9.e-]+', b'"logprob":' + word, parts[0])
    elif fault.kind == "missing":
        parts[0] = re.sub(rb'"logprobs":\{.*\},"finish', b'"logprobs":null,"finish', parts[0])
    elif fault.kind == "abort":
        parts[0] = re.sub(rb'"finish_reason":"\w+"', b'"finish_reason":"abort"', parts[0])


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
