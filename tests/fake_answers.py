"""What the fake vLLM server answers: its settings, scripted faults, and the bodies of replies."""

import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

DIGIT_IDS = {33: "1", 34: "2", 35: "3", 36: "4", 37: "5"}
_OTHER_TOKEN_ID = 1348
_OTHER_TOKEN = "This"
LOOKALIKE_ID = 29900
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


class FakeAnswers:
    """Bodies of chat replies. `prompts` counts what was asked while `settings.record` is on."""

    def __init__(self, settings: FakeSettings) -> None:
        self.settings = settings
        self.prompts: Counter[str] = Counter()
        self._fragments: dict[tuple[Any, ...], bytes] = {}

    def body(
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
            other = LOOKALIKE_ID if self.settings.prefix_token else _OTHER_TOKEN_ID
            pairs.insert(0, (other, -0.1))
        names = {_OTHER_TOKEN_ID: _OTHER_TOKEN, LOOKALIKE_ID: "1", **DIGIT_IDS}
        entries = [
            (f"token_id:{number}" if as_ids else names.get(number, "?"), logprob)
            for number, logprob in pairs
        ]
        return _choice(names.get(pairs[0][0], "?"), "length", _content(entries))

    def _written(self, prompt: str, n_max: int) -> bytes:
        """An answer without an enforced format."""
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
