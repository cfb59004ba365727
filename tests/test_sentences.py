"""Counts in sentences agree with their nouns and verbs."""

import pytest

from app.sentences import count
from app.tables.columns import changed_text


@pytest.mark.parametrize(
    ("number", "forms", "sentence"),
    [
        (0, ("run",), "0 runs"),
        (1, ("run",), "1 run"),
        (1234, ("run",), "1,234 runs"),
        (1, ("rule is on time", "rules are on time"), "1 rule is on time"),
        (7, ("rule is on time", "rules are on time"), "7 rules are on time"),
    ],
)
def test_a_count_agrees_with_its_noun_and_verb(number: int, forms: tuple[str, ...], sentence: str) -> None:
    assert count(number, *forms) == sentence


@pytest.mark.parametrize(("number", "sentence"), [(1000, "1,000 runs"), (1001, "more than 1,000 runs")])
def test_a_count_that_stopped_says_so(number: int, sentence: str) -> None:
    assert count(number, "run", most=1000) == sentence


@pytest.mark.parametrize(
    ("added", "removed", "sentence"),
    [
        (["tax"], [], "new column tax"),
        ([], ["tax", "fee"], "removed columns tax, fee"),
        (["tax", "fee"], ["net"], "new columns tax, fee; removed column net"),
    ],
)
def test_changed_columns_are_named_in_words(added: list[str], removed: list[str], sentence: str) -> None:
    assert changed_text(added, removed) == sentence
