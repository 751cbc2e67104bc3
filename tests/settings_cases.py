"""What every file of settings must do with values, good and bad."""

import copy
from collections.abc import Callable, Mapping
from functools import reduce
from operator import getitem

import pytest

from validation.sections import Section, flatten, settings, validate

NAN, INFINITY = float("nan"), float("inf")


def _place(params: Mapping, key: str) -> tuple[dict, dict, str]:
    """Copy nested parameters; return the copy, the section that holds a key, and its name."""
    changed = copy.deepcopy(dict(params))
    *sections, name = key.split(".")
    return changed, reduce(getitem, sections, changed), name


def with_value(params: Mapping, key: str, value: object) -> dict:
    """Return a copy of nested parameters with one value changed."""
    changed, place, name = _place(params, key)
    place[name] = value
    return changed


def cases(table: Mapping[str, list]) -> list:
    """List a table's values as test cases."""
    return [
        pytest.param(key, value, id=f"{key}={value!r}")
        for key, values in table.items()
        for value in values
    ]


def check_examples(model: type[Section], params: Mapping, valid: Mapping, invalid: Mapping) -> None:
    """Expect good and bad examples of every setting."""
    assert set(valid) == set(invalid) == set(settings(model)) == set(flatten(params))


def check_invalid(
    model: type[Section], params: Mapping, key: str, value: object, one_line: Callable
) -> None:
    """Expect one line that names key, value and what is allowed."""
    with pytest.raises(ValueError) as caught:
        validate(with_value(params, key, value), model)
    one_line(caught, f"{key}={value!r}", "must be", settings(model)[key])


def check_missing(model: type[Section], params: Mapping, key: str, one_line: Callable) -> None:
    """Expect a missing key to be named."""
    changed, place, name = _place(params, key)
    del place[name]
    with pytest.raises(ValueError) as caught:
        validate(changed, model)
    one_line(caught, key, "missing", settings(model)[key])
