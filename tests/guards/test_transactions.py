"""How transactions are written: no function takes both the resources and a session, and none ends by a rollback.

A rollback makes the driver forget every statement that it prepared on the connection.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.guards.laws import Source, sources


def takes_both(source: Source) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            types = [ast.unparse(one.annotation) for one in taken if one.annotation is not None]
            if any("Resources" in type or type == "Res" for type in types) and any("Session" in type for type in types):
                yield f"{source.path}: {node.name}"


def test_no_function_takes_resources_and_a_session() -> None:
    assert {found for source in sources() for found in takes_both(source)} == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("async def f(res: Resources, session: AsyncSession) -> None: ...", ["app/x.py: f"]),
        ("def f(session: AsyncSession, *, res: Resources | None = None) -> None: ...", ["app/x.py: f"]),
        ("async def f(res: Res, session: Session) -> None: ...", ["app/x.py: f"]),
        ("def f(res: Resources) -> None: ...", []),
        ("def f(session: AsyncSession, seconds: float) -> None: ...", []),
    ],
)
def test_a_planted_breach_is_seen(text: str, found: list[str]) -> None:
    assert list(takes_both(Source("app/x.py", text))) == found


# The one dry run, and the statements of a session that has no transaction.
ROLLS_BACK = {"app/api/as_code/apply.py", "app/db/engine.py"}


def opens_without_commit(source: Source) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.AsyncWith):
            for item in node.items:
                opened = ast.unparse(item.context_expr)
                if opened.endswith("sessions()") and source.path not in ROLLS_BACK:
                    yield f"{source.path}: {opened}: write sessions.begin()"


def test_a_session_that_only_reads_commits_too() -> None:
    assert {found for source in sources() for found in opens_without_commit(source)} == set()


def test_a_planted_session_that_rolls_back_is_seen() -> None:
    planted = "async def f(res):\n    async with res.sessions() as session:\n        pass"
    assert list(opens_without_commit(Source("app/x.py", planted))) == [
        "app/x.py: res.sessions(): write sessions.begin()"
    ]
    assert not list(opens_without_commit(Source("app/x.py", planted.replace("()", ".begin()"))))
