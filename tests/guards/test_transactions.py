"""The first parameter tells the transaction: no function takes both the resources and a session."""

import ast
from collections.abc import Iterator

import pytest

from tests.guards.laws import Source, sources


def takes_both(source: Source) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            types = [ast.unparse(one.annotation) for one in taken if one.annotation is not None]
            if any("Resources" in type for type in types) and any("Session" in type for type in types):
                yield f"{source.path}: {node.name}"


def test_no_function_takes_resources_and_a_session() -> None:
    assert {found for source in sources() for found in takes_both(source)} == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("async def f(res: Resources, session: AsyncSession) -> None: ...", ["app/x.py: f"]),
        ("def f(session: AsyncSession, *, res: Resources | None = None) -> None: ...", ["app/x.py: f"]),
        ("def f(res: Resources) -> None: ...", []),
        ("def f(session: AsyncSession, seconds: float) -> None: ...", []),
    ],
)
def test_a_planted_breach_is_seen(text: str, found: list[str]) -> None:
    assert list(takes_both(Source("app/x.py", text))) == found
