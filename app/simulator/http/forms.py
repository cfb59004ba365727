"""Form bodies and query strings, read as Stripe reads them: `parameters[columns][0]=a` becomes nested values."""

from typing import TypeAlias
from urllib.parse import parse_qsl

Value: TypeAlias = "str | list[Value] | dict[str, Value]"
Form: TypeAlias = dict[str, Value]

MOST_FIELDS = 10_000
DEEPEST = 12


class MalformedForm(ValueError):
    """The text is not a form that Stripe would accept; the message names the wrong field."""


def decode(text: str) -> Form:
    """Nested values of a form. `a[]=1&a[]=2`, `a[0]=1&a[1]=2` are lists, `a[b]=1` is a map, anything else is text."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise MalformedForm(f"The form could not be read: {error}") from error
    tree: Form = {}
    for name, value in pairs:
        _place(tree, name, value)
    return {name: _lists_restored(value) for name, value in tree.items()}


def _place(tree: Form, name: str, value: str) -> None:
    *path, last = _steps(name)
    here = tree
    for step in path:
        below = here.setdefault(_key(here, step), {})
        if not isinstance(below, dict):
            raise MalformedForm(f"Invalid parameter: {name} is given both as a value and as a hash")
        here = below
    key = _key(here, last)
    if isinstance(here.get(key), dict):
        raise MalformedForm(f"Invalid parameter: {name} is given both as a value and as a hash")
    here[key] = value


def _steps(name: str) -> list[str]:
    """`a[b][]` → `["a", "b", ""]`; a name with unbalanced brackets is taken literally."""
    head, bracket, rest = name.partition("[")
    if not bracket or not head or not rest.endswith("]"):
        return [name]
    steps = [head, *rest[:-1].split("][")]
    if len(steps) > DEEPEST:
        raise MalformedForm(f"Invalid parameter: {head} is nested too deeply")
    return steps


def _key(here: Form, step: str) -> str:
    """An empty step (`[]`) means the next free place of a list."""
    return step if step else str(len(here))


def _lists_restored(value: Value) -> Value:
    if not isinstance(value, dict):
        return value
    restored = {key: _lists_restored(below) for key, below in value.items()}
    if restored and all(key.isascii() and key.isdigit() for key in restored):
        return [restored[key] for key in sorted(restored, key=int)]
    return restored
