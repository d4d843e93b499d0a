"""Words and numbers as pages show them."""

import pytest

from benchlib.domain.vocabulary import FailureKind, RunStatus
from benchlib.infrastructure.table_files import read_table
from pages.shared import words


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0.2, "under 1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (50 * 3600, "2 d 2 h"),
    ],
)
def test_durations_use_two_units(seconds, shown):
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("per_second", "shown"), [(None, "–"), (0.126, "0.13 /s"), (9.94, "9.9 /s"), (1234, "1,234 /s")]
)
def test_rates_have_sensible_precision(per_second, shown):
    assert words.rate(per_second) == shown


def test_what_is_unknown_is_a_dash_and_never_a_zero():
    assert (words.amount(None), words.amount(0), words.amount(1234.0)) == ("–", "0", "1,234")
    assert (words.percent(None), words.percent(0), words.percent(0.584)) == ("–", "0%", "58%")


def test_a_percentage_says_all_or_none_only_where_it_is_so():
    shown = [words.percent(part) for part in (0.001, 0.005, 0.9949, 0.9995, 1)]
    assert shown == ["< 1%", "< 1%", "99%", "> 99%", "100%"]


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "–"),
        (0, "≈ 0"),
        (994, "≈ 994"),
        (996, "≈ 1 k"),
        (214_000, "≈ 210 k"),
        (996_000, "≈ 1 M"),
        (1_880_000, "≈ 1.9 M"),
        (16_540_000_000, "≈ 17 G"),
    ],
)
def test_a_guess_is_said_in_two_digits(number, shown):
    assert words.about(number) == shown


def test_a_bar_is_full_only_when_nothing_is_left():
    assert words.share(99_999, 100_000) < 1
    assert words.share(100_000, 100_000) == 1
    assert words.share(0, 0) == 0


def test_moments_are_told_in_the_readers_zone():
    assert words.moment("2026-01-02T03:04:05+00:00", "Europe/Berlin") == "2026-01-02 04:04 CET"
    assert words.moment("2026-01-02T03:04:05+00:00", "no/zone") == "2026-01-02 03:04 UTC"
    assert words.moment(None) == "–"


def test_every_status_and_failure_has_words():
    assert set(words.STATUS) == set(RunStatus)
    assert set(words.FAILURES) == {kind.value for kind in FailureKind}


def test_a_search_needs_all_its_words():
    assert words.matches("sim 12", ["12 · Simulated rater"])
    assert not words.matches("sim 13", ["12 · Simulated rater"])
    assert words.matches("", [])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Run 3 is running.", r"Run 3 is running\."),
        ("*a* <b>", r"\*a\* \<b\>"),
        ("see http://x.org/a, now", r"see `http://x.org/a`\, now"),
        ("a :material/home: b", r"a `:material/home`\: b"),
        ("[x](javascript:alert(1))", r"`[x](javascript:alert(1`\)\)"),
        ("mail me@x.org", "mail `me@x.org`"),
        ("http://`x", "`` http://`x ``"),
        ("one\ntwo", "one  \ntwo"),
    ],
)
def test_untrusted_text_stays_literal_in_markdown(text, shown):
    assert words.plain_markdown(text) == shown


@pytest.mark.parametrize("encoding", words.ENCODINGS.values(), ids=words.ENCODINGS)
def test_every_encoding_of_the_form_can_be_read(encoding):
    content = "name;n\nx;1\n".encode(encoding or "utf-8")
    assert read_table(content, encoding).frame.to_numpy().tolist() == [["x", "1"]]
