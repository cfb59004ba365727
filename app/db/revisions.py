"""The revisions of the schema that this version of the code knows, read from its migrations without Alembic.

Every start and every readiness probe needs them. Alembic takes a twentieth of a second to load, and only a
schema that is not at head needs it.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

MIGRATIONS = Path(__file__).parents[2] / "migrations"
_REVISION = re.compile(r"""^revision = ["'](\w+)""", re.MULTILINE)
_FOLLOWS = re.compile(r"""^down_revision = ["'](\w+)""", re.MULTILINE)


@cache
def head_revision() -> str:
    """The revision that this version of the code needs."""
    [head] = known_revisions() - {followed for text in _migrations() for followed in _FOLLOWS.findall(text)}
    return head


@cache
def known_revisions() -> frozenset[str]:
    """Every revision that this version of the code knows: any other was made by a newer one."""
    return frozenset(revision for text in _migrations() for revision in _REVISION.findall(text))


def _migrations() -> Iterator[str]:
    return (path.read_text() for path in (MIGRATIONS / "versions").glob("*.py"))
