import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchlib.domain.asking.answers import (
    RatingDistribution,
    answer_from_logprobs,
    distribution_from_logprobs,
    parse_rating_text,
    parse_structured,
)
from benchlib.domain.records import Answer, AnswerFailure
from benchlib.domain.vocabulary import FailureKind


def rating_of(outcome):
    assert isinstance(outcome, Answer | AnswerFailure)
    if isinstance(outcome, AnswerFailure):
        assert outcome.kind is FailureKind.UNUSABLE
        assert outcome.message.endswith(".")
        return None
    assert outcome.rating_raw in (1, 2, 3, 4, 5)
    return outcome.rating_raw


# -- free text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("4", 4),
        (" 4\n", 4),
        ("4.", 4),
        ("(4)", 4),
        ('"4"', 4),
        ("**4**", 4),
        ("__4__", None),  # a programmer's name, say: too odd to believe
        ("`4`", 4),
        ("4.0", 4),
        ("4,0", 4),
        ("4.00", 4),
        ("４", 4),
        ("5️⃣", 5),
        ("4/5", 4),
        ("4 / 5", 4),
        ("5/5", 5),
        ("4 out of 5", 4),
        ("4 von 5 Punkten", None),  # "Punkten" is no word the reader knows
        ("4 von 5", 4),
        ("Four out of five.", 4),
        ("4 stars", 4),
        ("Rating: 4", 4),
        ("**Rating:** 4", 4),
        ("Rating (1-5): 4", 4),
        ("Rating out of 5: 2", 2),
        ("Rating = 2", 2),
        ("rating 3", 3),
        ("Bewertung: 2", 2),
        ("Meine Bewertung ist 2.", 2),
        ("Antwort: vier", 4),
        ("The answer is 3.", 3),
        ("The answer is: 3", 3),
        ("My final answer is \\boxed{3}", 3),
        ("$\\boxed{3}$", 3),
        ("four", 4),
        ("Five.", 5),
        ("One", 1),
        ("Eins", 1),
        ("fünf", 5),
        ("Fünf!", 5),
        ("I would rate her a 4.", 4),
        ("I would rate this person 4 because she is a nurse.", 4),
        ("On a scale from 1 to 5, I would give this person a 2.", 2),
        ("Auf einer Skala von 1 bis 5 gebe ich eine 2.", 2),
        ("I'd say four.", 4),
        ("4 = quite competent", 4),
        ("4 - quite competent", 4),
        ("5 very competent", 5),
        ("2 wenig kompetent", 2),
        ("4. Because she works hard.", 4),
        ("4\n\nShe works hard.", 4),
        ("She is 34 years old and works hard.\n\nRating: 4", 4),
        ("She has 2 children. Rating: 4", 4),
        ("Rating: 4\nThe two of them differ.", 4),
        ("```\n4\n```", 4),
        ("```json\n{\"rating\": 4}\n```", 4),
        ("Here you are:\n```json\n{\"rationale\": \"2 of 3\", \"rating\": 4}\n```\nDone.", 4),
        ("<think>Maybe 2, maybe 3.</think>4", 4),
        ("<think>\nMaybe 2.\n</think>\n\nRating: 4", 4),
        ("Maybe 2, or 3.</think>\n4", 4),
        ("<THINKING>no 1</THINKING> 5", 5),
        ("[THINK]2?[/THINK]3", 3),
        ('{"rating": 4}', 4),
        ('{"rating": "4"}', 4),
        ('{"rating": 4.0}', 4),
        ('{"rating": "four"}', 4),
        ('{"Rating": "4/5"}', 4),
        ('{"bewertung": 4}', 4),
        ('{"rationale": "5 reasons", "rating": 2}', 2),
        ('My answer: {"rating": 2}', 2),
    ],
)  # fmt: skip
def test_ratings_that_are_clear(text, rating):
    assert rating_of(parse_rating_text(text)) == rating


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "0",
        "6",
        "10",
        "45",
        "-4",
        "−4",
        "– 4 or so",
        "minus 4",
        "Rating: -4",
        "4.5",
        "4,5",
        "3.14159",
        "1,000",
        "1.000",
        "04",
        "4%",
        "4 percent",
        "4/10",
        "8/10",
        "4 out of 10",
        "1/2",
        "½",
        "4/5/2024",
        "4:30",
        "4th",
        "1st",
        "GPT4",
        "m²",
        "3-4",
        "3 - 4",
        "3–4",
        "3 to 4",
        "3 or 4",
        "3 oder 4",
        "3, 4",
        "3 4",
        "4, maybe three",
        "Rating: 3-4",
        "Rating: 3 or 4",
        "Rating: one or two",
        "between 3 and 4",
        "zwischen 3 und 4",
        "about 4",
        "I would give more than 3.",
        "Rating: > 3",
        "I would not rate her a 4.",
        "I cannot rate people.",
        "I can't give a rating of 4.",
        "Ich kann keine 4 vergeben.",
        "1-5",
        "On a scale of 1 to 5.",
        "Rating: 4. Actually, 2.",
        "Rating: 4\nRating: 2",
        "Rating: 4. Or rather: three.",
        "4\n2",
        "1\n2\n3\n4\n5",
        "1 = very competent, 5 = not at all competent",
        "1. She is competent",
        "1) first",
        "1. She is kind\n2. She is brave",
        "The person has 3 children.",
        "There are 2 options.",
        "3 children",
        "The answer is 2 words long.",
        "One could say so.",
        "Someone",
        "No one knows.",
        "Null",
        "zero",
        "six",
        "★★★★☆",
        "四",
        "٤",
        "B",
        "very competent",
        "<think>It is 4",
        "4 <think>or 2",
        "```\n```",
        '{"rating": 6}',
        '{"rating": 0}',
        '{"rating": 4.5}',
        '{"rating": -1}',
        '{"rating": true}',
        '{"rating": null}',
        '{"rating": [4]}',
        '{"rating": "3-4"}',
        '{"rating": "4 or 5"}',
        '{"rating": NaN}',
        '{"rating": 1e999}',
        '{"rating": 2, "rating": 4}',
        '{"rating": 2, "Bewertung": 4}',
        '{"rating": 2} {"rating": 4}',
    ],
)
def test_ratings_that_leave_room_for_doubt_are_refused(text):
    assert rating_of(parse_rating_text(text)) is None


def test_the_raw_text_is_kept():
    assert parse_rating_text("<think>hm</think> 4 ").raw_answer == "<think>hm</think> 4 "
    failure = parse_rating_text("no " * 1000)
    assert failure.raw_text.startswith("no no ")
    assert len(failure.raw_text) == 300


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"rating":' * 50_000,
        "{" * 19_000,
        "1" * 10_000,
        "4 " * 5_000,
        "rating " * 2_000,
        "<think>" * 50_000,
        "1 to 5 " * 2_500,
        "9" * 5_000 + '{"rating": ' + "9" * 5_000 + "}",
    ],
)
def test_long_texts_are_read_in_no_time(text):
    # No clock: a reader of more than linear cost would not end within the limit of the suite.
    assert rating_of(parse_rating_text(text)) is None
    assert rating_of(parse_structured(text)) is None


@given(st.text())
def test_no_text_breaks_the_readers(text):
    rating_of(parse_rating_text(text))
    rating_of(parse_structured(text))


_PIECES = st.sampled_from(
    [
        "1", "2", "4", "5", "6", "10", "0", "-", "–", "/", ".", ",", ":", " ", "\n", "of", "out of",
        "Rating", "answer", "is", "one", "four", "vier", "or", "not", "<think>", "</think>", "```",
        "{", "}", '"rating"', '"', "*", "%", "(", ")", "I", "give", "children", "\u2028", "½",
    ]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=14), st.booleans())
def test_no_mixture_of_likely_pieces_breaks_the_readers(pieces, spaced):
    text = (" " if spaced else "").join(pieces)
    rating = rating_of(parse_rating_text(text))
    if rating is not None:  # never invented: the digit or its word is there
        words = {1: "one", 4: "four"}
        assert str(rating) in text or words.get(rating, "-") in text or "vier" in text


@given(st.integers())
def test_bare_integers_are_ratings_only_within_the_scale(number):
    assert rating_of(parse_rating_text(str(number))) == (number if 1 <= number <= 5 else None)


@given(st.decimals(min_value=-20, max_value=20, places=2), st.sampled_from([".", ","]))
def test_decimals_are_ratings_only_if_whole(number, separator):
    text = format(number, "f").replace(".", separator)
    whole = number == number.to_integral_value() and 1 <= number <= 5
    assert rating_of(parse_rating_text(text)) == (int(number) if whole else None)


@given(st.integers(1, 5), st.integers(1, 5))
def test_two_different_ratings_are_never_one(first, second):
    assume(first != second)
    for joint in (" ", "\n", ", ", "-", " - ", " or ", ". ", ".\nRating: ", " and "):
        assert rating_of(parse_rating_text(f"Rating: {first}{joint}{second}")) is None
        assert rating_of(parse_rating_text(f"{first}{joint}{second}")) is None


# -- structured -----------------------------------------------------------------------------------


@given(st.integers(1, 5), st.text(max_size=200), st.sampled_from([None, 0, 2]))
def test_structured_answers_are_read_whatever_the_rationale(rating, rationale, indent):
    text = json.dumps({"rationale": rationale, "rating": rating}, indent=indent)
    assert parse_structured(text) == Answer(rating, raw_answer=text)
    assert rating_of(parse_rating_text(text)) == rating


@given(st.integers(1, 5), st.integers(1, 60))
def test_a_structured_answer_cut_off_anywhere_is_read_only_if_its_rating_is_complete(rating, cut):
    text = json.dumps({"rationale": "because 5 is 5", "rating": rating})
    assume(cut < len(text))
    assert rating_of(parse_structured(text[:cut])) is None
    assert rating_of(parse_structured(text[:-1] + "\n" * cut)) == rating
    assert rating_of(parse_structured(text[:-1])) is None


@pytest.mark.parametrize(
    "text",
    ["4", '"4"', "[4]", "{}", '{"rating": }', 'x {"rating": 4}', '{"rating": 4} x', '{"a": 4}'],
)
def test_structured_answers_must_be_the_object(text):
    assert rating_of(parse_structured(text)) is None


# -- distribution ---------------------------------------------------------------------------------


def test_a_distribution_as_scipy_computes_it():
    # scipy.special.softmax([-4.2, -2.1, -0.9, -1.05, -2.8]); mass = sum(exp(logprobs))
    found = distribution_from_logprobs([-4.2, -2.1, -0.9, -1.05, -2.8])
    assert found.probabilities == pytest.approx(
        [0.01570596588, 0.128257586, 0.4258301818, 0.366515434, 0.06369083231], abs=1e-6
    )
    assert found.valid_mass == pytest.approx(0.9547694766, abs=1e-6)
    assert found.rating == 3
    expected = sum(k * p for k, p in enumerate(found.probabilities, 1))
    assert expected == pytest.approx(3.334227581, abs=1e-6)
    assert -sum(p * math.log(p) for p in found.probabilities) == pytest.approx(
        1.235443334, abs=1e-6
    )


def test_a_distribution_by_hand():
    # 1/2 and 1/4 of 3/4 in all: 2/3 and 1/3
    found = distribution_from_logprobs([None, math.log(0.5), -9999.0, math.log(0.25), -math.inf])
    assert found.probabilities == pytest.approx([0, 2 / 3, 0, 1 / 3, 0])
    assert found.valid_mass == pytest.approx(0.75)
    assert found.rating == 2


def test_of_equally_likely_ratings_the_lowest_is_named():
    assert distribution_from_logprobs([-3.0, -1.0, -1.0, -1.0, -2.0]).rating == 2


@pytest.mark.parametrize(
    "logprobs",
    [
        [None] * 5,
        [-9999.0] * 5,
        [-math.inf] * 5,
        [math.nan, -1.0, -1.0, -1.0, -1.0],
        [-1.0, -1.0, math.nan, -1.0, -math.inf],
        [math.inf, -1.0, -1.0, -1.0, -1.0],
        [math.inf, -math.inf, -1.0, -1.0, -1.0],
    ],
)
def test_figures_that_say_nothing_are_unusable(logprobs):
    failure = distribution_from_logprobs(logprobs)
    assert isinstance(failure, AnswerFailure)
    assert failure.kind is FailureKind.UNUSABLE
    assert answer_from_logprobs(logprobs, raw_answer="x").raw_text == "x"


def test_tiny_probabilities_still_make_a_distribution():
    found = distribution_from_logprobs([-800.0, -801.0, -2000.0, -8000.0, None])
    assert found.probabilities[0] == pytest.approx(1 / (1 + math.exp(-1)))
    assert found.valid_mass == 0.0


def test_an_answer_carries_its_distribution():
    answer = answer_from_logprobs([-4.0, -3.0, -2.0, -1.0, -5.0], raw_answer="4", latency_ms=12)
    assert answer.rating_raw == 4
    assert answer.raw_answer == "4"
    assert answer.latency_ms == 12
    assert sum(answer.probabilities) == pytest.approx(1)


_LOGPROB = st.floats(max_value=0.0, min_value=-60.0)
_ANY = st.one_of(st.none(), st.floats())


@given(st.lists(_ANY, min_size=5, max_size=5))
def test_any_figures_give_a_distribution_or_a_failure(logprobs):
    found = distribution_from_logprobs(logprobs)
    if isinstance(found, AnswerFailure):
        return
    assert isinstance(found, RatingDistribution)
    assert sum(found.probabilities) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in found.probabilities)
    assert 0 <= found.valid_mass <= 1
    assert found.probabilities[found.rating - 1] == max(found.probabilities)


@given(st.lists(_LOGPROB, min_size=5, max_size=5), st.floats(min_value=-20, max_value=0))
def test_a_shared_offset_changes_the_mass_alone(logprobs, offset):
    plain = distribution_from_logprobs(logprobs)
    moved = distribution_from_logprobs([value + offset for value in logprobs])
    assert moved.probabilities == pytest.approx(plain.probabilities, rel=1e-9, abs=1e-12)
    if sum(map(math.exp, logprobs)) <= 1:
        assert moved.valid_mass == pytest.approx(plain.valid_mass * math.exp(offset))


@given(st.permutations([-0.5, -1.5, -2.5, -3.5, -4.5]))
def test_permuting_the_digits_permutes_the_distribution(logprobs):
    found = distribution_from_logprobs(logprobs)
    in_order = distribution_from_logprobs(sorted(logprobs)).probabilities
    assert sorted(found.probabilities) == pytest.approx(sorted(in_order))
    assert found.rating == logprobs.index(-0.5) + 1
