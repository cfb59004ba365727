"""YAML of which only what JSON can express is accepted: `yes` stays text and `12:30` is not a number; a duplicate key
is an error. Every problem knows its line.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from app.errors import RuleFileError

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"


class Document:
    """A file of YAML documents: the nodes of each, and their values."""

    def __init__(self, text: str, *, file: str) -> None:
        """Raises RuleFileError with everything that JSON could not express."""
        self.file = file
        with _clear_errors(file):
            self._loader = _Loader(text)
            self.nodes = list(_documents(self._loader))
        problems = [at(file, node, message) for node, message in _unfit(self.nodes)]
        if problems:
            raise RuleFileError("\n".join(problems))

    def value(self, node: yaml.Node) -> Any:
        """What a node says. Raises RuleFileError."""
        with _clear_errors(self.file):
            return self._loader.construct_document(node)


@contextmanager
def _clear_errors(file: str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        line = 0 if error.problem_mark is None else error.problem_mark.line + 1
        raise RuleFileError(f"{file}:{line}: is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RuleFileError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error


def write(value: Any) -> str:
    """The text of a value: equal values make equal text."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
    return text


def is_empty(node: yaml.Node) -> bool:
    """Whether a document says nothing."""
    return node.tag == _TAG + "null"


def plain(value: Any) -> Any:
    """Plain values in a fixed order: in the database's JSON, only the order of lists is meaningful."""
    match value:
        case dict():
            return {name: plain(value[name]) for name in sorted(value)}
        case list():
            return [plain(part) for part in value]
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case str():
            return str(value)
        case _:
            return value


def follow(node: yaml.Node, path: Sequence[str | int]) -> yaml.Node:
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


def at(file: str, node: yaml.Node, message: str) -> str:
    return f"{file}:{node.start_mark.line + 1}: {message}"


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
