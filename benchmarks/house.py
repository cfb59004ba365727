"""The structure of the code, measured: its packages, cycles, files and functions at one revision, or at several.

python -m benchmarks.house                  # the files of this folder
python -m benchmarks.house 330d95e HEAD     # two revisions side by side
python -m benchmarks.house --rooms HEAD     # each package of app at one revision

Only syntax is read, so any revision can be measured. Siblings are the modules and packages directly in a package; an
import is a pair of siblings of which the first imports from the second, anywhere in its files; a cycle is a group of
siblings that all reach each other; layers are the siblings on the longest chain of imports.
"""

import ast
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

# Packages whose inside is shown too.
SHOWN = ("app", "app.runs", "app.api", "app.simulator")
LONG_FILE, DEEP, MANY_PARAMETERS = 250, 3, 5
# What a row of the database is called where its type ought to say what is in it.
ROW_NAMES = frozenset(
    {"account", "attempt", "check", "claim", "delivery", "event", "file", "found", "load", "message", "period"}
    | {"progress", "row", "rows", "rule", "run", "target", "type_", "window"}
)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Trees = Mapping[str, ast.Module]
Imports = dict[str, set[str]]


def main() -> None:
    """Print one column per revision, or one line per package."""
    revisions = [one for one in sys.argv[1:] if one != "--rooms"]
    if "--rooms" in sys.argv[1:]:
        print_packages(files_of(revisions[0]) if revisions else files_here())
        return
    columns = [measure(files_of(revision)) for revision in revisions] or [measure(files_here())]
    print("|", " | ".join(["", *(revisions or ["now"])]), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name in columns[0]:
        print("|", " | ".join([name, *(column[name] for column in columns)]), "|")


def print_packages(files: Mapping[str, str]) -> None:
    """The files and functions of each package at the top of app/, and how many functions have a docstring."""
    print("| package | files: number, median, longest | functions: number, median, p90, longest | docstrings |")
    print("|---|---|---|---|")
    for package in sorted({path.split("/")[1] for path in files if path.count("/") > 1}):
        inside = {path: text for path, text in files.items() if path.startswith(f"app/{package}/")}
        functions = functions_of(map(ast.parse, inside.values()))
        print(f"| `{package}` | {_files(inside)} | {_functions(functions)} | {_described(functions)} |")


def files_here() -> dict[str, str]:
    """The text of every Python file below app/, by path."""
    return {path.as_posix(): path.read_text(encoding="utf-8") for path in sorted(Path("app").rglob("*.py"))}


def files_of(revision: str) -> dict[str, str]:
    """The same at a revision of the repository."""
    packed = subprocess.run(["git", "archive", revision, "app"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        found = {one.name: archive.extractfile(one) for one in archive if one.name.endswith(".py")}
        return {name: file.read().decode() for name, file in found.items() if file is not None}


def measure(files: Mapping[str, str]) -> dict[str, str]:
    """Every figure by its name."""
    trees = {_module(path): ast.parse(text) for path, text in files.items()}
    packages = {_module(path) for path in files if path.endswith("/__init__.py")}
    functions = functions_of(trees.values())
    lines = _lines(files)
    figures = {}
    for package in SHOWN:
        imports = imports_of(package, trees, packages)
        number = sum(map(len, imports.values()))
        figures[f"`{package}`: siblings, layers, imports"] = f"{len(imports)}, {layers(imports)}, {number}"
    cycles = [cycle for package in packages for cycle in cycles_of(imports_of(package, trees, packages))]
    top = [path for path in files if path.count("/") == 1 and path != "app/__init__.py"]
    return figures | {
        "cycles, at any depth": f"{len(cycles)}" + (f" ({'; '.join(sorted(cycles))})" if cycles else ""),
        "modules, packages at the top of app/": f"{len(top)}, {sum(name.count('.') == 1 for name in packages)}",
        "files: number, median, longest": _files(files),
        f"files over {LONG_FILE} lines": str(sum(number > LONG_FILE for number in lines)),
        "functions: number, median, p90, longest": _functions(functions),
        "functions with a docstring": _described(functions),
        f"functions nested {DEEP} deep or more": str(sum(_depth(node) >= DEEP for node in functions)),
        f"functions with {MANY_PARAMETERS} parameters or more": str(
            sum(len(_parameters(node)) >= MANY_PARAMETERS for node in functions)
        ),
        "functions with `res` and `session`": str(
            sum({"res", "session"} <= {one.arg for one in _parameters(node)} for node in functions)
        ),
        "rows typed `Any`": str(sum(_untyped_rows(tree) for tree in trees.values())),
        "`Any`": str(sum(text.count("Any") for text in files.values())),
        "`type: ignore`, `noqa`": ", ".join(
            str(sum(text.count(word) for text in files.values())) for word in ("type: ignore", "noqa")
        ),
    }


def functions_of(trees: Iterable[ast.Module]) -> list[Function]:
    """Every function and method, at any depth."""
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, Function)]


def _lines(files: Mapping[str, str]) -> list[int]:
    return sorted(text.count("\n") for text in files.values() if text.count("\n") > 3)


def _files(files: Mapping[str, str]) -> str:
    lines = _lines(files)
    return f"{len(lines)}, {median(lines):.0f}, {lines[-1]}"


def _functions(functions: Sequence[Function]) -> str:
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for node in functions)
    return f"{len(lengths)}, {median(lengths):.0f}, {quantiles(lengths, n=10)[8]:.0f}, {lengths[-1]}"


def _described(functions: Sequence[Function]) -> str:
    return f"{sum(ast.get_docstring(node) is not None for node in functions) / len(functions):.0%}"


def imports_of(package: str, trees: Trees, packages: set[str]) -> Imports:
    """For each child of a package, the siblings that anything in it imports."""
    inside = [name for name in trees if name.startswith(f"{package}.")]
    imports: Imports = {_child(package, name): set() for name in inside}
    for name in inside:
        for imported in _imports(name, trees, packages):
            if imported.startswith(f"{package}.") and _child(package, imported) in imports:
                imports[_child(package, name)].add(_child(package, imported))
    return {name: found - {name} for name, found in imports.items()}


def cycles_of(imports: Imports) -> list[str]:
    """The groups of siblings that reach each other, each as text."""
    reached = {name: _reached(name, imports) for name in imports}
    groups = {frozenset(one for one in imports if name in reached[one] and one in reached[name]) for name in imports}
    return [" ⇄ ".join(sorted(group)) for group in groups if len(group) > 1]


def layers(imports: Imports) -> int:
    """The length of the longest chain; a cycle counts as one."""
    known: dict[str, int] = {}

    def layer(name: str, above: frozenset[str]) -> int:
        if name not in known:
            below = [layer(one, above | {name}) for one in imports[name] if one not in above]
            known[name] = 1 + max(below, default=0)
        return known[name]

    return max((layer(name, frozenset({name})) for name in sorted(imports)), default=0)


def _reached(name: str, imports: Imports) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        new = imports[todo.pop()] - found
        found |= new
        todo += new
    return found


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _child(package: str, name: str) -> str:
    return name.removeprefix(f"{package}.").partition(".")[0]


def _imports(name: str, trees: Trees, packages: set[str]) -> Iterator[str]:
    for node in ast.walk(trees[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in trees or full in packages else node.module


def _parameters(node: Function) -> list[ast.arg]:
    given = node.args
    return [one for one in (*given.posonlyargs, *given.args, *given.kwonlyargs) if one.arg not in ("self", "cls")]


def _depth(node: ast.AST, depth: int = 0) -> int:
    nesting = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
    below = [
        _depth(one, depth + isinstance(one, nesting))
        for one in ast.iter_child_nodes(node)
        if not isinstance(one, Function | ast.Lambda | ast.ClassDef)
    ]
    return max(below, default=depth)


def _untyped_rows(tree: ast.Module) -> int:
    named = [
        (one.arg, one.annotation) for node in ast.walk(tree) if isinstance(node, Function) for one in _parameters(node)
    ]
    named += [
        (node.target.id, node.annotation)
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    return sum(name in ROW_NAMES and note is not None and _is_any(ast.unparse(note)) for name, note in named)


def _is_any(note: str) -> bool:
    return note.replace(" | None", "") in {"Any", "Sequence[Any]", "list[Any]", "Iterable[Any]", "tuple[Any, ...]"}


if __name__ == "__main__":
    main()
