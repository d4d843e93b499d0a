"""Texts in figures and tables."""

from html import escape


def plain(text: str) -> str:
    """An untrusted text as Plotly shows it literally: no tags, links or line breaks.

    Plotly reads a subset of HTML in labels and hover texts, links included.
    """
    return escape(" ".join(text.split()), quote=False).replace("$", "&#36;")


def counted(n: int, what: str) -> str:
    """A number with its noun: "1 answer", "1,200 answers"."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
