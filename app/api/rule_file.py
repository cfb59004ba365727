"""Rules as YAML: read with the line of every problem, and written so that equal rules make equal text.

A file has a list under `rules:`, or one rule per document, or both. Only YAML that JSON can express is accepted, so
`yes` stays text and `12:30` is not a number; a duplicate key is an error.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.api.schemas.rules import RuleIn
from app.errors import BadInput, RuleFileError
from app.rules.rule import DEFAULT_TABLE, RULE_FIELDS, NewRule

# Left out of a file when empty.
_DEFAULTS = {"enabled": True, "settle_hours": 0, "parameters": {}, "connected_accounts": [], "retention_days": None}
_DEFAULTS |= {"connected": None, "table": dict(DEFAULT_TABLE), "recheck_days": []}
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"


@dataclass(frozen=True, slots=True)
class Written:
    """A rule as a file states it. `starts_on` None keeps the rule's, or means today for a new one."""

    rule: RuleIn
    file: str
    node: yaml.MappingNode

    def problem(self, message: str, *, path: Sequence[str | int] = ()) -> str:
        """A line about this rule, or about the field at `path`."""
        return _problem(self.file, self.node, path, message)

    def problems(self, error: BadInput) -> list[str]:
        """The lines of the errors that `app.rules.rule` raised."""
        paths = [found.pointer.strip("/").split("/") for found in error.errors]
        return [self.problem(found.detail, path=path) for found, path in zip(error.errors, paths, strict=True)]


def read_rules(text: str, *, file: str) -> list[Written]:
    """The rules of a file, in its order. Raises RuleFileError with everything that is wrong with it."""
    try:
        loader = _Loader(text)
        documents = list(_documents(loader))
        problems = [_at(file, node, message) for node, message in _unfit(documents)]
        if problems:
            raise RuleFileError("\n".join(problems))
        entries = [entry for node in documents for entry in _entries(node, file=file)]
        return _validated([(node, loader.construct_document(node)) for node in entries], file=file)
    except yaml.MarkedYAMLError as error:
        line = 0 if error.problem_mark is None else error.problem_mark.line + 1
        raise RuleFileError(f"{file}:{line}: is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RuleFileError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error


def write_rules(rules: Iterable[NewRule]) -> str:
    """The text of these rules, ordered by name."""
    ordered = sorted(rules, key=lambda rule: rule.name)
    value = {"rules": [as_written(rule) for rule in ordered]}
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
    return text


def as_written(rule: NewRule) -> dict[str, Any]:
    """A rule as users write it, without defaults except those that readers expect."""
    values = {name: getattr(rule, name) for name in RULE_FIELDS}
    return {name: _plain(value) for name, value in values.items() if name not in _DEFAULTS or value != _DEFAULTS[name]}


def _plain(value: Any) -> Any:
    """Plain values in a fixed order: of the database's JSON only the order of lists means something."""
    match value:
        case dict():
            return {name: _plain(value[name]) for name in sorted(value)}
        case list():
            return [_plain(part) for part in value]
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case str():
            return str(value)
        case _:
            return value


class _Loader(yaml.SafeLoader):
    """Plain scalars as in JSON: everything else is text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML's own spelling


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some YAML reader could take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # In any other style a line break of some kind would be read back as a blank.
        return self.represent_scalar(_TAG + "str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)


for _word, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(0|[1-9][0-9]*)\.[0-9]*([eE][-+][0-9]+)?", "-+0123456789"),
    ("merge", r"<<", "<"),
):
    _firsts = [letter if letter != "\0" else "" for letter in _first]
    _Loader.add_implicit_resolver(_TAG + _word, re.compile(rf"^(?:{_pattern})$"), _firsts)
_KNOWN_TAGS = {_TAG + word for word in ("bool", "null", "int", "float", "merge", "str", "map", "seq")}


def _documents(loader: _Loader) -> Iterator[yaml.Node]:
    while loader.check_node():
        node = loader.get_node()
        assert node is not None
        yield node


def _unfit(nodes: Iterable[yaml.Node]) -> Iterator[tuple[yaml.Node, str]]:
    """What JSON cannot express, and duplicate keys; each node once, however often it is referenced."""
    seen: set[int] = set()
    todo = list(nodes)[::-1]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag not in _KNOWN_TAGS:
            yield node, f"{node.tag.replace(_TAG, '!!')} is not supported: use text, numbers, true, false, lists"
        if isinstance(node, yaml.SequenceNode):
            todo += node.value[::-1]
        elif isinstance(node, yaml.MappingNode):
            yield from _unfit_keys(node)
            todo += [value for _, value in node.value[::-1]]


def _unfit_keys(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, str]]:
    seen = set()
    for key, _ in node.value:
        if key.tag not in (_TAG + "str", _MERGE):
            yield key, "a key must be text: put it in quotes"
        elif key.value in seen:
            yield key, f"{key.value} is a duplicate: remove one of them"
        else:
            seen.add(key.value)


def _entries(document: yaml.Node, *, file: str) -> list[yaml.MappingNode]:
    """The rules of a document."""
    if document.tag == _TAG + "null":
        return []
    listed: list[yaml.Node] = [document]
    if isinstance(document, yaml.MappingNode) and "rules" in (key.value for key, _ in document.value):
        others = [key for key, _ in document.value if key.value != "rules" and not str(key.value).startswith("x-")]
        (rules,) = [value for key, value in document.value if key.value == "rules"]
        if others or not isinstance(rules, yaml.SequenceNode):
            message = "next to `rules:` only keys that begin with `x-` are allowed" if others else "must be a list"
            raise RuleFileError(_at(file, others[0] if others else rules, message))
        listed = rules.value
    wrong = [
        _at(file, node, "is not a rule: it needs `name: …`")
        for node in listed
        if not isinstance(node, yaml.MappingNode)
    ]
    if wrong:
        raise RuleFileError("\n".join(wrong))
    return [node for node in listed if isinstance(node, yaml.MappingNode)]


def _validated(entries: Iterable[tuple[yaml.MappingNode, Any]], *, file: str) -> list[Written]:
    found: dict[str, Written] = {}
    problems = []
    for node, value in entries:
        try:
            written = Written(RuleIn.model_validate(value), file, node)
        except ValidationError as error:
            problems += [_problem(file, node, one["loc"], _described(one)) for one in error.errors(include_url=False)]
            continue
        first = found.setdefault(written.rule.name, written)
        if first is not written:
            message = f"the same rule name is already used in line {first.node.start_mark.line + 1}"
            problems.append(written.problem(message, path=("name",)))
    if problems:
        raise RuleFileError("\n".join(problems))
    return list(found.values())


def _described(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return "is not a field of a rule"
    if detail["type"] == "missing":
        return "is missing"
    return detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def _problem(file: str, rule: yaml.MappingNode, path: Sequence[str | int], message: str) -> str:
    names = [value.value for key, value in rule.value if key.value == "name" and isinstance(value, yaml.ScalarNode)]
    place = ".".join(str(part) for part in path)
    return _at(file, _follow(rule, path), ": ".join(part for part in (*names[-1:], place, message) if part))


def _follow(node: yaml.Node, path: Sequence[str | int]) -> yaml.Node:
    """The part of the file that `path` leads to, as far as it does."""
    for part in path:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [value for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            inner = node.value[part : part + 1]
        if not inner:
            break
        node = inner[-1]
    return node


def _at(file: str, node: yaml.Node, message: str) -> str:
    return f"{file}:{node.start_mark.line + 1}: {message}"
