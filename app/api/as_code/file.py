"""Rules and targets as YAML: read with the line of every problem, and written so that equal ones make equal text.

A file has lists under `rules:` and `targets:`, or one rule per document, or both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.api.as_code.yaml import Document, at, follow, is_empty, plain, write
from app.api.schemas.common import In
from app.api.schemas.rules import ALIASES, RuleIn
from app.api.schemas.targets import TargetIn
from app.errors import BadInput, RuleFileError
from app.rules.rule import DEFAULT_TABLE, RULE_FIELDS, NewRule, connected_of
from app.sentences import place, sentence, unknown

# Left out of a file when empty.
_DEFAULTS = {"enabled": True, "settle_hours": 0, "parameters": {}, "connected_accounts": [], "retention_days": None}
_DEFAULTS |= {"table": dict(DEFAULT_TABLE), "recheck_days": [], "except": []}
_TARGET_DEFAULTS: dict[str, Any] = {"url": None, "recipients": [], "message_types": ["*"], "rules": None}
_TARGET_DEFAULTS |= {"accounts": None, "enabled": True}

Given = TypeVar("Given", RuleIn, TargetIn)


@dataclass(frozen=True, slots=True)
class Written(Generic[Given]):
    """A rule or target as a file states it. A rule's `starts_on` None keeps what is, or means today for a new one."""

    value: Given
    file: str
    node: yaml.MappingNode

    def problem(self, message: str, *, path: Sequence[str | int] = ()) -> str:
        """A line about it, or about the field at `path`."""
        return _problem(self.file, self.node, path, message)

    def problems(self, error: BadInput) -> list[str]:
        """The lines of the errors that its checks raised."""
        paths = [found.pointer.strip("/").split("/") for found in error.errors]
        return [self.problem(found.detail, path=path) for found, path in zip(error.errors, paths, strict=True)]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file states; None: it says nothing about them."""

    rules: Sequence[Written[RuleIn]] | None
    targets: Sequence[Written[TargetIn]] | None


def read_file(text: str, *, file: str) -> Contents:
    """The rules and targets of a file, in its order. Raises RuleFileError with everything that is wrong with it.

    A file that has nothing but `targets:` says nothing about rules.
    """
    document = Document(text, file=file)
    nodes = _nodes(document)
    rules, wrong = _validated(document, nodes.get("rules", []), RuleIn, "rule")
    targets, wrong_targets = _validated(document, nodes.get("targets", []), TargetIn, "target")
    if wrong or wrong_targets:
        raise RuleFileError("\n".join([*wrong, *wrong_targets]))
    return Contents(None if set(nodes) == {"targets"} else rules, targets if "targets" in nodes else None)


def write_rules(rules: Iterable[NewRule]) -> str:
    """The text of these rules, ordered by name."""
    return write({"rules": [as_written(rule) for rule in sorted(rules, key=lambda rule: rule.name)]})


def write_targets(targets: Iterable[TargetIn]) -> str:
    """The text of these targets, ordered by name. No secret is in it: those are derived."""
    return write({"targets": [_target(target) for target in sorted(targets, key=lambda target: target.name)]})


def as_written(rule: NewRule) -> dict[str, Any]:
    """A rule as users write it, without defaults except those that readers expect."""
    values = {ALIASES.get(name, name): getattr(rule, name) for name in RULE_FIELDS}
    values["connected"] = connected_of(rule)
    return _without_defaults(values, _DEFAULTS)


def _target(target: TargetIn) -> dict[str, Any]:
    return _without_defaults(target.model_dump(mode="json"), _TARGET_DEFAULTS)


def _without_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in values.items() if name not in defaults or value != defaults[name]}


def _nodes(document: Document) -> dict[str, list[yaml.Node]]:
    """The entries of each list that a file has, in its order; a document that is one rule counts as a rule."""
    found: dict[str, list[yaml.Node]] = {}
    for node in document.nodes:
        if not is_empty(node):
            for name, entries in _lists(document.file, node).items():
                found.setdefault(name, []).extend(entries)
    return found


def _lists(file: str, node: yaml.Node) -> dict[str, list[yaml.Node]]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    parts = {str(key.value): (key, value) for key, value in pairs if not str(key.value).startswith("x-")}
    if not {"rules", "targets"} & set(parts):
        return {"rules": [node]}
    for name, (key, value) in parts.items():
        if name not in ("rules", "targets"):
            message = "next to `rules:` and `targets:` only keys that begin with `x-` are allowed"
            raise RuleFileError(at(file, key, message))
        if not isinstance(value, yaml.SequenceNode):
            raise RuleFileError(at(file, value, "must be a list: begin each entry with `- name: …`"))
    return {name: value.value for name, (_, value) in parts.items()}


def _validated(
    document: Document, nodes: Sequence[yaml.Node], model: type[Given], what: str
) -> tuple[list[Written[Given]], list[str]]:
    """The entries, and the lines of those that are wrong."""
    found: dict[str, Written[Given]] = {}
    problems = []
    for node in nodes:
        if not isinstance(node, yaml.MappingNode):
            problems.append(at(document.file, node, f"is not a {what}: it needs `name: …`"))
            continue
        try:
            written = Written(model.model_validate(document.value(node)), document.file, node)
        except ValidationError as error:
            lines = error.errors(include_url=False)
            problems += [_problem(document.file, node, place(one), _described(one, model)) for one in lines]
            continue
        first = found.setdefault(written.value.name, written)
        if first is not written:
            message = f"this {what} name is already used on line {first.node.start_mark.line + 1}"
            problems.append(written.problem(message, path=("name",)))
    return list(found.values()), problems


def _described(detail: ErrorDetails, model: type[In]) -> str:
    if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
        return unknown(str(detail["loc"][0]), [one.alias or name for name, one in model.model_fields.items()])
    return sentence(detail)


def _problem(file: str, entry: yaml.MappingNode, path: Sequence[str | int], message: str) -> str:
    names = [value.value for key, value in entry.value if key.value == "name" and isinstance(value, yaml.ScalarNode)]
    field = ".".join(str(part) for part in path)
    return at(file, follow(entry, path), ": ".join(part for part in (*names[-1:], field, message) if part))
