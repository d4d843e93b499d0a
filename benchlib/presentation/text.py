"""Texts in figures and tables."""

from collections.abc import Mapping
from html import escape
from typing import Final

VERDICTS: Final[Mapping[str, str]] = {
    "biased": "differs",
    "negligible": "differs, but below the margin",
    "equivalent": "equivalent",
    "inconclusive": "too close to call",
}
"""Verdicts as pages, figures and files show them; whether that is bias is for people to say."""

STATUSES: Final[Mapping[str, str]] = {
    "low_n": "fewer than 10 personas, read with care",
    "constant_group": "all equal in a group, read with care",
    "not_comparable": "no shared traits, not comparable",
    "n_lt_2": "fewer than 2 personas, no interval",
    "zero_variance": "no variance, no interval",
    "no_data": "no ratings",
}
"""Why a row is to be read with care, or why it has no interval; "ok" is not mentioned."""


def escaped(text: str) -> str:
    """A text of our own, such as a p, as Plotly shows it literally."""
    return escape(text, quote=False)


def plain(text: str) -> str:
    """An untrusted text as Plotly shows it literally: no tags, links or line breaks.

    Plotly reads a subset of HTML in labels and hover texts, links included.
    """
    return escape(" ".join(text.split()), quote=False).replace("$", "&#36;")


def counted(n: int, what: str) -> str:
    """A number with its noun: "1 answer", "1,200 answers"."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
