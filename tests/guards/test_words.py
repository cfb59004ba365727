"""Nothing that people read slips back into the house dialect."""

import re

import pytest

from tests.guards import words
from tests.guards.words import dialect, prose, python, whole


def test_the_prose_is_plain_english() -> None:
    assert list(dialect(prose())) == [], "say it in the words that tests/guards/words.py puts beside the pattern"


def test_every_exception_is_still_needed() -> None:
    lines = list(prose()) if words.ALLOWED else []  # reading everything takes seconds

    needed = {
        (path, words) for path, words in words.ALLOWED if any(path == at and words in text for at, _, text in lines)
    }

    assert needed == words.ALLOWED


# One sentence for each pattern, in their order.
PLANTED = [
    "Whoever comes first makes it.",
    "It is made anew.",
    "Stripe never told of it.",
    "A worker that was not heard of.",
    "The server that comes along.",
    "It was slow of late.",
    "The body is no JSON.",
    "There were none of them.",
    "Trouble with the disk ends it.",
    "What is odd about settings.",
    "A file and the name thereof.",
    "No schema is at hand.",
    "It is nobody's fault.",
    "A wrong body is told so.",
    "The key by which it is found.",
    "The file was begun twice.",
    "The download goes on.",
]


@pytest.mark.parametrize(("pattern", "sentence"), list(zip(words.DIALECT, PLANTED, strict=True)))
def test_a_planted_sentence_is_seen_wherever_it_is_written(pattern: str, sentence: str) -> None:
    name = sentence.strip(".").replace(" ", "_").replace("'", "_").lower()
    code = f"""def f():
    '''{sentence}'''
    # {sentence}
    raise ValueError(f"{{x}}: {sentence}")
def test_{name}(): ...
"""

    in_a_document = list(dialect(whole("docs/x.md", f"# A title\n\n{sentence}\n")))
    in_code = list(dialect(python("app/x.py", code)))

    assert re.search(pattern, sentence, re.IGNORECASE)
    assert [found.partition(": ")[0] for found in in_a_document] == ["docs/x.md:3"]
    assert {f"app/x.py:{number}" for number in (2, 3, 4)} <= {found.partition(": ")[0] for found in in_code}
    assert "app/x.py:5" in {found.partition(": ")[0] for found in in_code} or "'" in pattern


@pytest.mark.parametrize(
    "sentence",
    ["There is no run 7.", "It is no longer there.", "A rule in trouble comes first.", "last_trouble is a column."],
)
def test_plain_sentences_pass(sentence: str) -> None:
    assert list(dialect(whole("docs/x.md", sentence))) == []
