"""The words of a house dialect, and the prose that they must not come back into."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# Each reads as a translation. What to write instead stands beside it.
DIALECT = {
    r"whoever": "who, a noun, or the passive",
    r"anew": "again",
    r"(told|tells?|telling) of": "reported, announced",
    r"heard (of|nothing of)": "reported, has not reported",
    r"comes? along": "is bundled, arrives",
    r"of late": "recently",
    r"(?<!there )(?<!where )(is|are|was|were) no (?!longer|more|less|one\b)\w+": "is not a, is not valid",
    r"there (is|are|was|were) none of": "none exists, it does not exist",
    r"(?<!in )(?<![.:&*\"_])troubles?(?!\")": "problem, failure, error",
    r"what is odd": "warnings, suspicious",
    r"wherefore|thereof|whereof|therein|wherein|herein": "a plain clause",
    r"at hand": "available",
    r"nobody's (fault|own)": "a plain noun",
    r"is (said|told) so": "is reported, says so",
    r"by which it": "a plain clause",
    r"(was|is|were|are) begun": "started, restarted",
    r"(goes|gone) on": "continues, resumes",
}
# Where the word is right: (file, the words that surround it).
ALLOWED: frozenset[tuple[str, str]] = frozenset()
_ONE = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in DIALECT), re.IGNORECASE)
_PLACES = (
    "app",
    "docs",
    "deploy",
    "benchmarks",
    "tests",
    "migrations",
    ".ci",
    ".env.example",
    "Makefile",
    "Dockerfile",
)
_PROSE = {".md", ".html", ".json", ".yml", ".yaml", ".toml", ".example", ".txt", ".tpl", ""}


class Line(NamedTuple):
    path: str
    number: int
    text: str


def dialect(lines: Iterator[Line]) -> Iterator[str]:
    """Each sentence with a word of the dialect, and where it is."""
    for path, number, text in lines:
        for found in _ONE.finditer(text):
            if not any(path == where and words in text for where, words in ALLOWED):
                yield f"{path}:{number}: “{found[0]}” in: {text.strip()[:120]}"


def prose() -> Iterator[Line]:
    """Everything of the project that people read: documents and pages whole, comments, texts and test names of code."""
    command = ["git", "ls-files", "-z", "--", *_PLACES, "*.md", "*.yml", "pyproject.toml"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in sorted(set(listed.split("\0")) - {""}):
        file = ROOT / path
        if path.startswith("tests/guards/") or "/vendor/" in path or not file.is_file():
            continue
        if file.suffix == ".py":
            yield from python(path, file.read_text(encoding="utf-8"))
        elif file.suffix in _PROSE:
            yield from whole(path, file.read_text(encoding="utf-8"))


def whole(path: str, text: str) -> Iterator[Line]:
    """Every line of a text."""
    for number, line in enumerate(text.splitlines(), start=1):
        yield Line(path, number, line)


def python(path: str, text: str) -> Iterator[Line]:
    """Comments, texts (docstrings, error messages, parts of f-strings), and names of tests as sentences."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield Line(path, token.start[0], token.string)
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Constant(value=str(value)) if " " in value:
                yield Line(path, node.lineno, " ".join(value.split()))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("test_"):
                yield Line(path, node.lineno, name.replace("_", " "))
            case _:
                pass
