"""House laws that no tool holds, each a function from a source file to its breaches.

A breach is named by where it is (`app/runs/waiting.py: why(run)`), so that a list of known ones can only shrink.
"""

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.house import ROW_NAMES

ROOT = Path(__file__).parents[2]
MOST_LINES = 400

DIALECT_NAMES = frozenset({"told", "_told", "Told", "_Told"})


@dataclass(frozen=True, slots=True)
class Source:
    """A file, its path as seen from the root of the project."""

    path: str
    text: str

    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(ast.parse(self.text))


_NOW = r"(?:func\.|(?<![\w.]))now\(\)"
_NOW_COMPARED = re.compile(
    rf"[\w.]+\s*(?:[<>]=?|[-+])\s*{_NOW}|{_NOW}\s*[-+<>]"
    rf"|\b(?:due_at|lease_until|look_at|next_probe_at|previous_until)\s*=\s*{_NOW}"
    r"|\*\s*interval\b"
)
# What an answer of `execute` can do; all else is a column.
_OF_A_RESULT = frozenset(
    {"_mapping", "mappings", "rowcount", "scalar_one", "scalar_one_or_none", "scalars", "tuples"}
    | {"all", "first", "one", "one_or_none"}
)
Law = Callable[[Source], Iterable[str]]


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the service."""
    return tuple(
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "app").rglob("*.py"))
    )


@cache
def breaches(law: Law) -> frozenset[str]:
    """All breaches of a law in the service."""
    return frozenset(breach for source in sources() for breach in law(source))


def rows_without_a_type(source: Source) -> Iterator[str]:
    """A row is a frozen dataclass: nothing named like one is annotated `Any`."""
    for place, name, annotation in _annotated(source):
        if name in ROW_NAMES and _is_any(annotation):
            yield f"{source.path}: {place}"


def rows_read_by_attribute(source: Source) -> Iterator[str]:
    """Columns are read from a row with a type (`db/rows.fetch`), never from what `execute` answers."""
    for function in source.nodes():
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            raw: set[str] = set()
            for node in ast.walk(function):
                match node:
                    case (
                        ast.Assign(targets=[ast.Name(id=name)], value=value)
                        | ast.For(target=ast.Name(id=name), iter=value)
                        | ast.comprehension(target=ast.Name(id=name), iter=value)
                    ) if _is_raw(value, raw):
                        raw.add(name)
            for node in ast.walk(function):
                match node:
                    case ast.Attribute(value=ast.Name(id=name), attr=column) if name in raw:
                        if column not in _OF_A_RESULT:
                            yield f"{source.path}: {function.name}: {name}.{column}"


def _is_raw(value: ast.expr, raw: Collection[str]) -> bool:
    """Whether this is the answer of `execute`, or rows of it as they come."""
    match value:
        case ast.Await(value=ast.Call(func=ast.Attribute(attr="execute"))):
            return True
        case ast.Call(func=ast.Attribute(value=inner, attr="all" | "first" | "one" | "one_or_none")):
            return _is_raw(inner, raw)
        case ast.Call(func=ast.Name(id="list"), args=[inner]) | ast.IfExp(body=inner):
            return _is_raw(inner, raw)
        case ast.Name(id=name):
            return name in raw
        case _:
            return False


def errors_elsewhere(source: Source) -> Iterator[str]:
    """Exceptions that other files can meet are drawn in app/errors.py; those of one file have an underscore.

    The simulator knows nothing of the service, and has errors of its own.
    """
    if source.path == "app/errors.py" or source.path.startswith("app/simulator/"):
        return
    for node in source.nodes():
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and _is_exception(node):
            yield f"{source.path}: {node.name}"


def folders_that_say_nothing(source: Source) -> Iterator[str]:
    """The docstring of a folder says what it is for."""
    if source.path.endswith("/__init__.py") and not ast.get_docstring(ast.parse(source.text)):
        yield source.path


def files_too_long(source: Source) -> Iterator[str]:
    """No file is this long, even if it tells one story; those over 250 lines are named in decision 0016."""
    if source.text.count("\n") > MOST_LINES:
        yield source.path


def compared_with_now(source: Source) -> Iterator[str]:
    """Due times, leases and ages are set by and compared with `clock_timestamp()`; no duration is a product (0011).

    What a search through an index compares with `now()` is on the list of tests/guards/test_laws.py.
    """
    if not source.path.startswith("app/simulator/"):  # has no SQL, and a clock of its own
        for found in _NOW_COMPARED.finditer(source.text):
            yield f"{source.path}: {' '.join(found[0].split())}"


def names_of_the_dialect(source: Source) -> Iterator[str]:
    """A name says what the value is (`updates`, `notice`), not that somebody told it."""
    for name in sorted({_identifier(node) for node in source.nodes()} & DIALECT_NAMES):
        yield f"{source.path}: {name}"


def which_run_counts(source: Source) -> Iterator[str]:
    """Which run of a window covers it is said once (`rules/rechecks.COUNTED_FIRST`)."""
    if source.path != "app/rules/rechecks.py":
        for found in re.finditer(r"state\s*=\s*'stored'\s+desc", source.text):
            yield f"{source.path}: line {source.text.count(chr(10), 0, found.start()) + 1}"


def _identifier(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
            return name
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
        case _:
            return ""


def _annotated(source: Source) -> Iterator[tuple[str, str, ast.expr | None]]:
    """Each parameter and variable with an annotation: its place, its name, the annotation."""
    for node in source.nodes():
        match node:
            case ast.FunctionDef(name=function, args=given) | ast.AsyncFunctionDef(name=function, args=given):
                for one in (*given.posonlyargs, *given.args, *given.kwonlyargs):
                    yield f"{function}({one.arg})", one.arg, one.annotation
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                yield name, name, annotation


def _is_any(annotation: ast.expr | None) -> bool:
    """`Any` alone, or a sequence, an optional or a union of it; a mapping to `Any` may be JSON."""
    match annotation:
        case ast.Name(id="Any") | ast.Attribute(attr="Any"):
            return True
        case ast.BinOp(left=left, right=right):
            return _is_any(left) or _is_any(right)
        case ast.Subscript(value=ast.Name(id="list" | "tuple" | "Sequence" | "Iterable"), slice=inner):
            return _is_any(inner)
        case _:
            return False


def _is_exception(node: ast.ClassDef) -> bool:
    names = [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases]
    return any(name.endswith(("Error", "Exception")) for name in names) or any(name in _OURS for name in names)


def _named_in_errors() -> frozenset[str]:
    tree = ast.parse((ROOT / "app/errors.py").read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.ClassDef)) - {"FieldError"}


_OURS = _named_in_errors()
