"""Reading a rating from a model's answer; never inventing one.

Every reader returns an `Answer`, or an `AnswerFailure` that says why there is no rating. In doubt
it is a failure: a failure is asked again, a wrong rating would be believed.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isnan
from typing import Final, NamedTuple

from benchlib.domain.records import Answer, AnswerFailure
from benchlib.domain.vocabulary import N_POINTS, FailureKind

_LONGEST_TEXT: Final = 20_000
_SNIPPET: Final = 300
_NO_LOGPROB: Final = -9000.0
"""Engines write -9999 for minus infinity; no real log-probability comes near."""

_INVALID: Final = 0
"""Marks a number that cannot be a rating: 0, 6, 4.5, -3, 4/10, ..."""


class RatingDistribution(NamedTuple):
    """What a model's log-probabilities say about the five ratings.

    Attributes:
        probabilities: p1..p5, summing to 1.
        valid_mass: Probability of all five together before renormalising, 0..1.
        rating: The most likely one; the lowest of several equally likely ones.
    """

    probabilities: tuple[float, float, float, float, float]
    valid_mass: float
    rating: int


def distribution_from_logprobs(
    logprobs: Sequence[float | None],
) -> RatingDistribution | AnswerFailure:
    """Turn the log-probabilities of the tokens "1".."5" into a distribution over ratings.

    p_k = softmax(logprob of digit k), mass = sum of exp(logprob).

    Args:
        logprobs: Five natural logarithms in the order of the digits. A digit the engine did not
            report (None, minus infinity, or about -9999) has probability 0.

    Returns:
        The distribution, or a failure if no digit was reported or a value is NaN or infinite: such
        a value says nothing about its digit, so the others cannot be renormalised.
    """
    one, two, three, four, five = (-inf if value is None else value for value in logprobs)
    total = one + two + three + four + five
    if not _NO_LOGPROB < total < inf:  # rare: something is missing or not a number
        one, two, three, four, five = (
            -inf if value < _NO_LOGPROB else value for value in (one, two, three, four, five)
        )
        total = one + two + three + four + five
    top = max(one, two, three, four, five)
    if isnan(total) or top == inf:
        return _unusable("The engine reported log-probabilities that are not numbers.")
    if top == -inf:
        return _unusable("The engine reported no log-probability for any of the digits 1 to 5.")
    weights = (exp(one - top), exp(two - top), exp(three - top), exp(four - top), exp(five - top))
    scale = sum(weights)
    return RatingDistribution(
        (
            weights[0] / scale,
            weights[1] / scale,
            weights[2] / scale,
            weights[3] / scale,
            weights[4] / scale,
        ),
        min(1.0, exp(min(top, 0.0)) * scale),
        weights.index(max(weights)) + 1,
    )


def answer_from_logprobs(
    logprobs: Sequence[float | None], raw_answer: str = "", latency_ms: int = 0
) -> Answer | AnswerFailure:
    """An answer in `distribution` mode: the most likely digit, with its distribution."""
    found = distribution_from_logprobs(logprobs)
    if isinstance(found, AnswerFailure):
        return found._replace(raw_text=raw_answer[:_SNIPPET])
    return Answer(found.rating, found.probabilities, found.valid_mass, raw_answer, latency_ms)


def parse_structured(text: str) -> Answer | AnswerFailure:
    """Read a JSON answer: an object with `rating`, and maybe `rationale`.

    The whole text must be that object. An object cut off after a complete rating and followed by
    white space only still counts: some models fill the rest of their tokens with white space.
    """
    return _answer_from_json(text, text.strip()) or _unusable(
        "The answer is not a JSON object with a rating.", text
    )


def parse_rating_text(text: str) -> Answer | AnswerFailure:
    """Read a rating from free text, as models give it without structured outputs.

    Understands JSON, code fences, thinking blocks, emphasis, number words in English and German,
    "4/5", "Rating: 4", "4.0" and "4,0". Refuses anything ambiguous: several different numbers,
    ranges, fractions, anything outside 1..5, and numbers that count something else.
    """
    answer = _without_thinking(text)
    if answer is None:
        return _unusable("The answer ended before its thinking did.", text)
    if len(answer) > _LONGEST_TEXT:
        return _unusable(f"The answer is longer than {_LONGEST_TEXT} characters.", text)
    answer = _without_fences(answer).strip()
    if not answer:
        return _unusable("The answer is empty.", text)
    from_json = _answer_from_json(text, answer) or _answer_from_embedded_json(text, answer)
    if from_json is not None:
        return from_json
    return _answer_from_prose(text, _plain(answer))


# -- JSON -----------------------------------------------------------------------------------------


class _ContradictoryRating(ValueError):
    """An object gives two ratings."""


def _checked_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        key = name.strip().lower()
        if key in found and key in _RATING_KEYS and found[key] != value:
            raise _ContradictoryRating
        found[key] = value
    return found


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_checked_object, strict=False)
_RATING_KEYS: Final = ("rating", "bewertung")
_CUT_OFF: Final = re.compile(r'"rating"\s*:\s*"?[1-5]"?\Z')


def _answer_from_json(raw: str, text: str) -> Answer | AnswerFailure | None:
    """Read a text that is a JSON object; None if it is not one with a rating."""
    try:
        value = _DECODER.decode(text)
    except _ContradictoryRating:
        return _unusable("The answer gives two different ratings.", raw)
    except (ValueError, RecursionError):
        # The white space after it, stripped from `text`, proves that the rating is complete.
        if not raw[-1:].isspace() or not _CUT_OFF.search(text[-40:]):
            return None
        try:
            value = _DECODER.decode(text + "}")
        except (ValueError, RecursionError):
            return None
    return _answer_from_object(raw, value)


def _answer_from_embedded_json(raw: str, text: str) -> Answer | AnswerFailure | None:
    """Read the JSON objects inside other text; None if none has a rating."""
    start = text.find("{")
    found: list[Answer | AnswerFailure] = []
    for _ in range(20):
        if start < 0:
            break
        try:
            value, end = _DECODER.raw_decode(text, start)
        except _ContradictoryRating:
            return _unusable("The answer gives two different ratings.", raw)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            answer = _answer_from_object(raw, value)
            if answer is not None:
                found.append(answer)
        start = text.find("{", end)
    if len(set(found)) > 1:
        return _unusable("The answer gives two different ratings.", raw)
    return found[0] if found else None


def _answer_from_object(raw: str, value: object) -> Answer | AnswerFailure | None:
    if not isinstance(value, dict):
        return None
    ratings = [value[key] for key in _RATING_KEYS if key in value]
    if not ratings:
        return None
    numbers = {_rating_of(rating) for rating in ratings}
    if len(numbers) > 1:
        return _unusable("The answer gives two different ratings.", raw)
    number = numbers.pop()
    if number == _INVALID:
        return _unusable(f"The rating is not one of 1 to {N_POINTS}.", raw)
    return Answer(number, raw_answer=raw)


def _rating_of(value: object) -> int:
    """The rating a JSON value stands for, or `_INVALID`."""
    if isinstance(value, bool):
        return _INVALID
    if isinstance(value, int | float):
        return int(value) if value in _POINTS else _INVALID
    if isinstance(value, str) and len(value) <= _SNIPPET:
        text = _plain(value)
        mentions = _mentions(text)
        if len(mentions) == 1 and mentions[0].start == 0 and mentions[0].end == len(text):
            return mentions[0].rating
    return _INVALID


_POINTS: Final = frozenset(range(1, N_POINTS + 1))


# -- text -----------------------------------------------------------------------------------------

_WORDS: Final = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5,
    "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "null": 0, "eins": 1, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "fuenf": 5,
    "sechs": 6, "sieben": 7, "acht": 8, "neun": 9, "zehn": 10,
}  # fmt: skip
_WORD: Final = "|".join(sorted(_WORDS, key=len, reverse=True))
_EDGE: Final = r"(?![^\W_])"
_START: Final = r"(?<![^\W_])"
_NUMBER: Final = rf"(?:[0-9]+(?:[.,][0-9]+)?|{_START}(?:{_WORD}){_EDGE})"
_MENTION: Final = re.compile(
    rf"(?P<number>{_NUMBER})"
    r"(?:\s*/\s*(?P<slash>[0-9]+(?:[.,][0-9]+)?)"
    r"|\s+(?:out\s+of|of|von|aus)\s+(?P<outof>[0-9]+(?:[.,][0-9]+)?|five|fünf))?"
)
_SCALE: Final = re.compile(
    r"(?:(?:from|between|von|zwischen)\s+)?(?<![\w.,/-])1\s*(?:-|–|—|to|through|and|bis|und)\s*5"
    r"(?![\w/-]|[.,][0-9])"
    rf"|{_START}(?:five|5|fünf)[\s-]*(?:point|punkte?|stufige?n?)(?:[\s-]*(?:scale|skala))?{_EDGE}"
    rf"|{_START}out\s+of\s+(?:5|five)(?=\s*[:)])"
)
"""Mentions of the scale itself, which say nothing about the rating."""

_LABEL: Final = re.compile(
    rf"{_START}(?:rating|score|answer|choice|bewertung|antwort|wertung|einschätzung|wahl)"
    r"\s*(?:\(\s*\)\s*)?(?:is|ist|lautet|would\s+be|wäre)?\s*[:=]?\s*(?:is\s*)?[(\[]?\s*\Z"
)
_CLAIM: Final = re.compile(
    rf"{_START}(?:rat(?:e|ed|ing)|scor(?:e|ed)|give|say|choose|pick|select|go\s+with|answer|choice|"
    rf"bewert(?:e|en|ung)|gebe|vergebe|sage|wähle|antwort(?:e)?|einschätzung|wertung|wahl){_EDGE}"
)
_DOUBT: Final = re.compile(
    rf"{_START}(?:not|never|no|cannot|unable|without|(?:ca|wo|would|could|should|do|does|did|is)nt|"
    r"nicht|nie|kein\w*|ohne|than|least|most|above|below|over|under|about|around|almost|nearly|"
    r"approximately|roughly|minus|mindestens|höchstens|über|unter|etwa|ungefähr|circa|ca|knapp|if|"
    rf"wenn|falls){_EDGE}|[<>≤≥~≈]"
)
_CLOSE: Final = re.compile(
    r"[ \t]*(?:\Z|[\n\r.!?:;,=)\]|]|[-–—](?![0-9])|"
    r"(?:\(|stars?|points?|sterne?|punkte?|because|since|as|for|on|weil|da|denn|für|auf|"
    r"not\s+at\s+all|slightly|moderately|quite|very|"
    rf"überhaupt\s+nicht|wenig|einigermaßen|ziemlich|sehr){_EDGE})"
)
_ALTERNATIVE: Final = re.compile(
    r"\s*(?:-|–|—|~|/|,|&|\bto\b|\bor\b|\band\b|\bbis\b|\boder\b|\bund\b)"
    rf"\s*(?:maybe\s+|perhaps\s+|vielleicht\s+)?(?:an?\s+|eine?\s+)?{_NUMBER}"
)
_UNIT: Final = re.compile(r"\s*(?:%|°|percent\b|prozent\b)")
_LIST_ITEM: Final = re.compile(r"1[.)]\s+\S")
_SENTENCE_END: Final = re.compile(r"[.!?;\n]")


@dataclass(frozen=True, slots=True)
class _Mention:
    """A number mentioned in a text.

    Attributes:
        start: Where it begins.
        end: Where it ends, including a scale like "/5".
        rating: The rating it may be, or `_INVALID`.
        is_word: Written as a word.
        closes: What follows allows it to be an answer rather than a count of something.
    """

    start: int
    end: int
    rating: int
    is_word: bool
    closes: bool


def _answer_from_prose(raw: str, text: str) -> Answer | AnswerFailure:
    if any(c.isnumeric() for c in text if c > "\x7f"):
        return _unusable("The answer holds digits that cannot be read with certainty.", raw)
    text = _SCALE.sub(lambda found: " " * len(found.group()), text).strip()
    mentions = _mentions(text)
    labelled = [mention for mention in mentions if _is_labelled(text, mention)]
    claimed = labelled or [mention for mention in mentions if _is_claimed(text, mention)]
    if not claimed:
        return _unusable("The answer holds no rating.", raw)
    ratings = {mention.rating for mention in claimed}
    if ratings & {_INVALID}:
        return _unusable(f"The answer names something that is not one of 1 to {N_POINTS}.", raw)
    # A labelled rating is contradicted only by what looks like an answer too, not by ages.
    rivals = [m for m in mentions if m.closes or not (labelled or m.is_word)]
    ratings |= {m.rating for m in rivals if not (labelled and m.rating == _INVALID)}
    if len(ratings) > 1:
        return _unusable("The answer names several numbers.", raw)
    return Answer(ratings.pop(), raw_answer=raw)


def _is_labelled(text: str, mention: _Mention) -> bool:
    """Whether it follows a label: "Rating: 4"."""
    before = text[max(0, mention.start - 40) : mention.start]
    return _LABEL.search(before) is not None and (mention.closes or mention.rating == _INVALID)


def _is_claimed(text: str, mention: _Mention) -> bool:
    """Whether it starts the text, or a sentence says that it is the rating."""
    if not (mention.closes or mention.rating == _INVALID):
        return False
    if not text[: mention.start].strip("([# -\t\n"):
        # "1. She ..." may be the beginning of a list.
        return not _LIST_ITEM.match(text, mention.start)
    before = _SENTENCE_END.split(text[max(0, mention.start - 80) : mention.start])[-1]
    is_pronoun = mention.is_word and mention.rating == 1
    return not is_pronoun and _CLAIM.search(before) is not None


def _mentions(text: str) -> list[_Mention]:
    """All numbers in a text cleaned by `_plain`, each judged by itself and its neighbours."""
    found = []
    for match in _MENTION.finditer(text):
        number, start, end = match["number"], match.start(), match.end()
        rating = _WORDS[number] if number in _WORDS else _whole(number)
        scale = match["slash"] or match["outof"]
        if scale is not None and scale not in ("5", "five", "fünf"):
            rating = _INVALID
        if rating not in _POINTS or not _is_free(text, start, end):
            rating = _INVALID
        closes = _CLOSE.match(text, end) is not None
        found.append(_Mention(start, end, rating, number in _WORDS, closes))
    return found


def _whole(number: str) -> int:
    """The integer a written number stands for; "4.0" and "4,00" are whole, "1,000" is not 1."""
    integer, _, decimals = number.replace(",", ".").partition(".")
    if len(integer) > 2 or len(decimals) > 2 or decimals.strip("0") or integer.startswith("0"):
        return _INVALID
    return int(integer)


def _is_free(text: str, start: int, end: int) -> bool:
    """Whether a number stands alone: no sign, unit, doubt, range or longer word around it."""
    before, after = text[start - 1 : start], text[end : end + 2]
    if before.isalnum() or (before and before in "_/+^#€£-–—−.,<>~≈"):
        return False
    if before == ":" and text[start - 2 : start - 1].isdigit():
        return False
    if after[:1].isalnum() or (after[:1] and after[0] in "_/^+€£<>"):
        return False
    if after[:1] in ("-", "–", "—", ".", ",", ":") and after[1:].isalnum():
        return False
    if _UNIT.match(text, end) or _ALTERNATIVE.match(text, end):
        return False
    sentence = _SENTENCE_END.split(text[max(0, start - 80) : start])[-1]
    return _DOUBT.search(sentence) is None


def _plain(text: str) -> str:
    """The text in lower case, without emphasis, quotes and the marks of a boxed answer."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = text.replace("\ufe0f", "").replace("\u20e3", "").replace("\\boxed", "answer:")
    return text.translate(_MARKUP).strip()


_MARKUP: Final = str.maketrans(dict.fromkeys("*`\"'“”„‚‘’«»{}$\\", None))

_THINKING: Final = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[think]", "[/think]"),
)


def _without_thinking(text: str) -> str | None:
    """The text after all thinking blocks; None if one never ends."""
    for opening, closing in _THINKING:
        folded = text.lower()
        if len(folded) != len(text):  # some letters are longer in lower case: work on that text
            text = folded
        last = folded.rfind(closing)
        if last >= 0:
            start = folded.find(opening)
            head = text[:start] if 0 <= start < last else ""
            text = head + text[last + len(closing) :]
            folded = text.lower()
        if opening in folded:
            return None
    return text


def _without_fences(text: str) -> str:
    """The text without the lines that open or close a code block."""
    if "```" not in text:
        return text
    return "\n".join(
        re.sub(r"^\s*```\w{0,20}\s*|\s*```\s*$", "", line) for line in text.splitlines()
    )


def _unusable(message: str, text: str = "") -> AnswerFailure:
    return AnswerFailure(FailureKind.UNUSABLE, message, text[:_SNIPPET])
