"""Stripe's lists: newest first, cut into pages by cursors, filtered by creation."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from app.simulator import errors
from app.simulator.http.forms import Form, Value
from app.simulator.state.collection import Collection, ItemT

CURSORS = frozenset({"limit", "starting_after", "ending_before", "expand"})
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda left, right: left > right,
    "gte": lambda left, right: left >= right,
    "lt": lambda left, right: left < right,
    "lte": lambda left, right: left <= right,
}


def page(
    collection: Collection[ItemT],
    form: Form,
    *,
    kind: str,
    url: str,
    render: Callable[[ItemT], dict[str, Any]],
    fits: Callable[[ItemT], bool],
) -> dict[str, Any]:
    """One page of what matches; `kind` names the items in messages."""
    limit = _limit(form)
    after, before = (_cursor(collection, form, name, kind) for name in ("starting_after", "ending_before"))
    if after is not None and before is not None:
        raise errors.invalid("ending_before", "You cannot use both `starting_after` and `ending_before`.")
    made_then = created_filter(form.get("created"))
    candidates: Iterator[ItemT] = collection.older_than(after) if before is None else collection.newer_than(before)
    found = list(islice((item for item in candidates if made_then(item.created) and fits(item)), limit + 1))
    has_more, found = len(found) > limit, found[:limit]
    if before is not None:
        found.reverse()
    return {"object": "list", "data": [render(item) for item in found], "has_more": has_more, "url": url}


def refuse_unknown(form: Form, known: frozenset[str]) -> None:
    for name in form:
        if name not in known:
            raise errors.unknown_parameter(name)


def integer(param: str, value: Value) -> int:
    if not isinstance(value, str) or not value.removeprefix("-").isdecimal() or not value.isascii() or len(value) > 12:
        raise errors.invalid(param, f"Invalid integer: {value}", code="parameter_invalid_integer")
    return int(value)


def boolean(param: str, value: Value) -> bool:
    if value not in ("true", "false"):
        raise errors.invalid(param, f"Invalid boolean: {value}")
    return value == "true"


def created_filter(value: "Value | None") -> Callable[[int], bool]:
    """`created=…` or `created[gte]=…&created[lt]=…` as a predicate."""
    if value is None:
        return lambda created: True
    if not isinstance(value, dict):
        moment = integer("created", value)
        return lambda created: created == moment
    bounds: list[tuple[Callable[[int, int], bool], int]] = []
    for name, bound in value.items():
        if name not in COMPARISONS:
            raise errors.unknown_parameter(f"created[{name}]")
        bounds.append((COMPARISONS[name], integer(f"created[{name}]", bound)))
    return lambda created: all(compare(created, bound) for compare, bound in bounds)


def created_since(value: "Value | None") -> int:
    """The lower bound that `created` sets, 0 if it sets none; `page` filters exactly."""
    if not isinstance(value, dict):
        return 0
    return max([0, *(integer("created", value[name]) for name in ("gt", "gte") if name in value)])


def _limit(form: Form) -> int:
    limit = integer("limit", form.get("limit", "10"))
    if not 1 <= limit <= 100:
        word = "less than or equal to 100" if limit > 100 else "greater than or equal to 1"
        raise errors.invalid("limit", f"This value must be {word}.", code="parameter_invalid_integer")
    return limit


def _cursor(collection: Collection[ItemT], form: Form, name: str, kind: str) -> str | None:
    identifier = form.get(name)
    if identifier is None:
        return None
    if not isinstance(identifier, str) or collection.get(identifier) is None:
        raise errors.invalid(name, f"No such {kind}: '{identifier}'", code="resource_missing")
    return identifier
