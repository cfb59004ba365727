"""What nothing uses is not kept: constants, functions and fields of dataclasses that no line of the service names."""

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterator

import pytest

from tests.guards.laws import ROOT, Source, sources

# Read by their names, from the whole object: in an answer of the API, in the JSON of `doctor`.
READ_AS_A_WHOLE = {"app/rules/forecast.py: Forecast.per_hour", "app/cli/doctor/endpoint.py: Fixed.endpoint_id"}
# Tables are read by SQL; their classes are there for migrations.
_MODELS = re.compile(r"app/db/\w*models\.py")


def unused(files: Collection[Source], templates: str = "") -> Iterator[str]:
    """What is defined at the top of these files and named nowhere else in them, and fields that none of them reads."""
    text = templates + "\n".join(source.text for source in files)
    names = _counted(r"\b[A-Za-z_]\w+\b", text)
    read = _counted(r"(?<=\.)\w+|(?<=[\"'])\w+(?=[\"'])", text)
    for source in files:
        for node in ast.parse(source.text).body:
            match node:
                case ast.ClassDef(decorator_list=[_, *_]):
                    for field in node.body:
                        match field:
                            case ast.AnnAssign(target=ast.Name(id=name)) if name not in read:
                                yield f"{source.path}: {node.name}.{name}"
                case (
                    ast.Assign(targets=[ast.Name(id=name)])
                    | ast.AnnAssign(target=ast.Name(id=name))
                    | ast.FunctionDef(name=name, decorator_list=[])
                    | ast.AsyncFunctionDef(name=name, decorator_list=[])
                    | ast.ClassDef(name=name)
                ) if names[name] == 1 and not name.startswith("__") and not _MODELS.match(source.path):
                    yield f"{source.path}: {name}"


def _counted(pattern: str, text: str) -> Counter[str]:
    return Counter(re.findall(pattern, text))


def test_nothing_is_kept_that_no_line_uses() -> None:
    templates = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "app/web/templates").rglob("*.html"))

    assert set(unused(sources(), templates)) == READ_AS_A_WHOLE


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("KINDS = (1, 2)", ["app/x.py: KINDS"]),
        ("KINDS: tuple[int, ...] = (1, 2)\nprint(KINDS)", []),
        ("def drop() -> None: ...", ["app/x.py: drop"]),
        ("@get('/x')\nasync def show() -> None: ...", []),
        ("class Lost: ...", ["app/x.py: Lost"]),
        ("@dataclass\nclass Row:\n    id: int\n    by: str\n\nprint(Row(1, by='').id)", ["app/x.py: Row.by"]),
        ("@dataclass\nclass Row:\n    by: str\n\ngetattr(Row(''), 'by')", []),
    ],
)
def test_a_planted_rest_is_seen(text: str, found: list[str]) -> None:
    assert list(unused([Source("app/x.py", text)])) == found
