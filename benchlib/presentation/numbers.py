"""Numbers as figures and tables write them: a real minus sign, p in APA style."""


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign, never "−0.00"; a dash where it is undefined."""
    if value is None:
        return "–"
    rounded = f"{value:+.{digits}f}"
    if float(rounded) == 0:
        rounded = rounded.replace("-", "+")
    return rounded.replace("-", "−")


def number(value: float | None, digits: int = 2) -> str:
    """A number without a plus sign, never "−0.00"; a dash where it is undefined."""
    return "–" if value is None else signed(value, digits).removeprefix("+")


def probability(value: float | None) -> str:
    """A p or q in APA style: ".034", "< .001", "> .999"; a dash where it is undefined."""
    if value is None:
        return "–"
    if value < 0.001:
        return "< .001"
    return "> .999" if value >= 0.9995 else f"{value:.3f}".removeprefix("0")


def relation(value: float | None) -> str:
    """A p or q as it follows its name: "= .034", "< .001"."""
    text = probability(value)
    return text if text.startswith(("<", ">")) else f"= {text}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval of differences in brackets; "[no interval]" where it is undefined."""
    if low is None or high is None:
        return "[no interval]"
    return f"[{signed(low, digits)}, {signed(high, digits)}]"
