"""The base of everything that forms, JSON and notebooks can choose: validated in one place."""

from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from benchlib.domain.errors import InvalidInput


class Limits(NamedTuple):
    """The range of a number, both ends included, and its default."""

    low: float
    high: float
    default: float


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
    def limits(cls, name: str, step: float = 1) -> Limits:
        """The range and the default of a number, for widgets that offer it.

        Args:
            name: A field with a lower and an upper bound; its default is a number.
            step: How far a widget stays away from a bound that is itself not allowed.
        """
        field = cls.model_fields[name]
        kind = type(field.default)
        bounds = {
            rule: getattr(constraint, rule)
            for constraint in field.metadata
            for rule in ("ge", "gt", "le", "lt")
            if hasattr(constraint, rule)
        }
        low = bounds["ge"] if "ge" in bounds else bounds["gt"] + step
        high = bounds["le"] if "le" in bounds else bounds["lt"] - step
        return Limits(kind(low), kind(high), field.default)


def explain(error: ValidationError) -> str:
    """One sentence per wrong field, without repeating what was handed in."""
    sentences = []
    for problem in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        sentences.append(f"{name}: {said}" if name else said)
    return "; ".join(sentences) + "."
