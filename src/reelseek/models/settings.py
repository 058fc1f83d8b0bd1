"""Settings of recipes and models: unknown ones are refused, and what is wrong is said, with what was probably meant."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, ValidationError

__all__ = ["STRICT", "describe_problems", "refuse_switch"]

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""For a pydantic dataclass of settings: an unknown one is an error, and so is a number that is not finite."""

_UNKNOWN_SETTING = "unexpected_keyword_argument"


def refuse_switch(cls: type, value: Any, info: Any) -> Any:
    """Refuse true and false where a setting is a number, which they would become; for `field_validator`.

    Args:
        info: pydantic's ValidationInfo, a protocol that cannot be checked at run time.

    Raises:
        ValueError: says so.
    """
    if isinstance(value, bool):
        annotation = get_type_hints(cls)[str(info.field_name)]
        if bool not in (annotation, *get_args(annotation)):
            raise ValueError(f"it is no switch, and {str(value).lower()} is no value of it")
    return value


def describe_problems(error: ValidationError, schema: type) -> str:
    """Describe every setting that does not validate, by its place.

    Args:
        schema: the dataclass that the settings were validated against.
    """
    return "; ".join(_describe(problem, schema) for problem in error.errors())


def _describe(problem: Any, schema: type) -> str:
    location: tuple[str | int, ...] = problem["loc"]
    message = problem["msg"]
    if problem["type"] == _UNKNOWN_SETTING:
        names = _settings_beside(location, schema)
        near = get_close_matches(str(location[-1]), names, n=1)
        message = "no setting has this name; " + (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}" if names else "leave it out"
        )
    message = message.removeprefix("Value error, ")  # what pydantic puts before the words of our own checks
    return f"{'.'.join(map(str, location))}: {message}" if location else message  # a check of several has no place


def _settings_beside(location: tuple[str | int, ...], schema: type) -> list[str]:
    """The settings of the section in which an unknown one stands."""
    sections = [schema]
    for key in location[:-1]:
        if isinstance(key, str):
            sections = [inner for outer in sections for inner in _sections(get_type_hints(outer).get(key))]
    return sorted({field.name for section in sections for field in fields(section)})


def _sections(annotation: Any) -> Iterator[Any]:
    """The dataclasses in an annotation, such as the one in `tuple[GroupRecipe, ...]`."""
    if is_dataclass(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
