"""Numbers as readers see them."""


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign; a dash where there is none."""
    if value is None:
        return "–"
    rounded = f"{value:+.{digits}f}"
    if float(rounded) == 0:
        rounded = rounded.replace("-", "+")
    return rounded.replace("-", "−")


def number(value: float | None, digits: int = 2) -> str:
    """A level; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def probability(value: float | None) -> str:
    """A p or q with three digits; a dash where there is none."""
    if value is None:
        return "–"
    return "&lt; .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def relation(value: float | None) -> str:
    """A p or q after its name: "= .034", "< .001"."""
    told = probability(value)
    return told if told.startswith("&lt;") else f"= {told}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in brackets; "no interval" where there is none."""
    if low is None or high is None:
        return "[no interval]"
    return f"[{signed(low, digits)}, {signed(high, digits)}]"
