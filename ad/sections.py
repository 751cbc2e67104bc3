"""Types of settings, each with what it allows in words, and errors of one line.

A file of parameters is a tree of `Section` models; pydantic checks it.
"""

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import getitem
from typing import Annotated, Literal, Self, TypeVar

from annotated_types import BaseMetadata
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


class Section(BaseModel):
    """Some settings that belong together; frozen, and strict about types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def of(cls, names: Mapping[str, object], prefix: str) -> Self:
        """Gather a section from a notebook's parameters: ``image_size`` to ``Image.size``."""
        return cls(
            **{key: names[prefix + key] for key in cls.model_fields if prefix + key in names}
        )


class Allowed(BaseMetadata):
    """What a setting allows, in words: behind "it must be" in the message of an error."""

    def __init__(self, words: str) -> None:
        self.words = words


def _number_in_text(value: object) -> object:
    """Take ``1e-6`` for a number, as people mean it; YAML 1.1 reads it as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def integer(low: int, high: int | None = None, *, odd: bool = False) -> object:
    """Return the type of an integer from ``low`` to ``high``."""
    kind = "an odd integer" if odd else "an integer"
    words = f"{kind} of at least {low}" if high is None else f"{kind} from {low} to {high}"
    checks = [AfterValidator(_odd)] if odd else []
    return Annotated[(int, Field(ge=low, le=high), *checks, Allowed(words))]


def integer_or_null(low: int, meaning: str) -> object:
    """Return the type of an integer of at least ``low``, or null with its meaning."""
    words = f"null ({meaning}) or an integer of at least {low}"
    return Annotated[Annotated[int, Field(ge=low)] | None, Allowed(words)]


def number(words: str, **bounds: float) -> object:
    """Return the type of a finite number; ``gt``, ``ge``, ``lt`` and ``le`` bound it."""
    return Annotated[float, BeforeValidator(_number_in_text), Field(**bounds), Allowed(words)]


def choice(*names: str) -> object:
    """Return the type of one of some names."""
    return Annotated[Literal[names], Allowed("one of " + ", ".join(names))]


def checked(kind: object, check: object, words: str) -> object:
    """Return a type with a further check, which raises ValueError."""
    return Annotated[kind, AfterValidator(check), Allowed(words)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("even")
    return value


def different(values: list) -> list:
    """Refuse an empty list and one in which a value stands twice."""
    if not values or len({str(value) for value in values}) < len(values):
        raise ValueError("empty, or a value stands twice")
    return values


def rising(values: list) -> list:
    """Refuse all but two values, the smaller first."""
    if len(values) != 2 or not values[0] < values[1]:
        raise ValueError("not two rising values")
    return values


_LayerName = Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=0)]
Layers = checked(list[_LayerName], different, "a list of different layer names or stage numbers")
Names = checked(
    list[Annotated[str, Field(pattern=r"^[\w.-]+$")]],
    different,
    "a list of different names of timm models",
)
Text = Annotated[str, Field(pattern=r"\S"), Allowed("a non-empty text")]
Flag = Annotated[bool, Allowed("true or false")]
Share = number("a number above 0 and at most 1", gt=0, le=1)


def flatten(params: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Turn nested sections into dotted keys: ``{"cv": {"folds": 5}}`` to ``{"cv.folds": 5}``."""
    flat: dict[str, object] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def settings(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """List the dotted keys of a section and what each allows, in words."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= settings(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = next(m.words for m in field.metadata if isinstance(m, Allowed))
    return found


_Model = TypeVar("_Model", bound=Section)


def validate(params: Mapping[str, object], model: type[_Model]) -> _Model:
    """Refuse unknown and missing keys, wrong types and values out of range.

    Raises
    ------
    ValueError
        One line that names the key, the value and what is allowed.
    """
    known = settings(model)
    try:
        validated = model.model_validate(params)
    except ValidationError as error:
        raise ValueError(_in_one_line(error.errors()[0], params, known)) from None
    given = flatten(params)
    for key, allowed in known.items():  # defaults are for code; a file says all it means
        if not any(name == key or name.startswith(f"{key}.") for name in given):
            raise ValueError(f"parameter {key} is missing; it must be {allowed}")
    return validated


def _in_one_line(error: Mapping, params: Mapping, known: Mapping[str, str]) -> str:
    key, value = _setting(error["loc"], known), error["input"]
    extra = error["type"] == "extra_forbidden"  # a dotted key at the top is none of the section's
    if key in known and not extra and error["type"] != "missing":
        value = reduce(getitem, key.split("."), params)  # the whole list, not one entry
    inside = [name.removeprefix(f"{key}.") for name in known if name.startswith(f"{key}.")]
    if error["type"] == "value_error" and key not in known:
        return str(error["ctx"]["error"])  # of several settings together
    if error["type"] == "missing":
        first = key if key in known else f"{key}.{inside[0]}"
        return f"parameter {first} is missing; it must be {known[first]}"
    if isinstance(value, Mapping) and not inside:
        key, value = next(iter(flatten(value, f"{key}.").items()), (key, value))
    if key in known and not extra:
        return f"{key}={value!r} is not allowed; it must be {known[key]}"
    if inside:
        return f"{key}={value!r} is not allowed; it must be a section with {', '.join(inside)}"
    section = key.rpartition(".")[0]
    near = [name for name in known if name.rpartition(".")[0] == section] or list(known)
    return f"unknown parameter {key}={value!r}; known are {', '.join(near)}"


def _setting(place: Iterable[object], known: Mapping[str, str]) -> str:
    """Name the setting that a place lies in: what follows lies inside its value."""
    key = ""
    for part in place:
        key = f"{key}.{part}" if key else str(part)
        if key in known:
            break
    return key
