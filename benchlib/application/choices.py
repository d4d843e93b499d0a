"""Choices that forms, JSON and notebooks make: checked once, with bounds that all can read."""

from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from benchlib.domain.errors import InvalidInput


class Limits(NamedTuple):
    """The range of a number, both ends included unless they are named exclusive; None = open."""

    low: float | None
    high: float | None
    default: Any
    low_exclusive: bool = False
    high_exclusive: bool = False


class Choices(BaseModel):
    """A set of choices that never changes; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Check the choices.

        Raises:
            InvalidInput: One is wrong; the text names it and says what is allowed.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            raise InvalidInput(explain(error)) from None

    @classmethod
    def limits(cls, name: str) -> Limits:
        """The range and the default of a number, for widgets that offer it."""
        field = cls.model_fields[name]
        bounds = {
            kind: getattr(rule, kind)
            for rule in field.metadata
            for kind in ("ge", "gt", "le", "lt")
            if hasattr(rule, kind)
        }
        return Limits(
            low=bounds.get("ge", bounds.get("gt")),
            high=bounds.get("le", bounds.get("lt")),
            default=field.default,
            low_exclusive="gt" in bounds,
            high_exclusive="lt" in bounds,
        )


def explain(error: ValidationError) -> str:
    """One sentence per wrong field, without repeating what was handed in."""
    sentences = []
    for problem in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        sentences.append(f"{name}: {said}" if name else said)
    return "; ".join(sentences) + "."
