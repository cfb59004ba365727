"""Forms: every nesting can be written and read back, and nonsense is refused instead of guessed."""

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.simulator.http.forms import MalformedForm, Value, decode

NAMES = st.text("abcxyz_é", min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS, lambda below: st.lists(below, min_size=1, max_size=4) | st.dictionaries(NAMES, below, min_size=1, max_size=4)
)


def flat(name: str, value: Value) -> list[tuple[str, str]]:
    """As the SDK writes it: lists with numbered places."""
    if isinstance(value, str):
        return [(name, value)]
    items = enumerate(value) if isinstance(value, list) else value.items()
    return [pair for key, below in items for pair in flat(f"{name}[{key}]", below)]


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_is_written_like_the_sdk_does_is_read_back(form: dict[str, Value]) -> None:
    pairs = [pair for name, value in form.items() for pair in flat(name, value)]

    assert decode(urlencode(pairs)) == form


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_list_may_be_written_without_places(texts: list[str]) -> None:
    assert decode(urlencode([("a[b][]", text) for text in texts])) == {"a": {"b": texts}}


@given(st.text(max_size=60))
def test_no_text_breaks_the_decoder(text: str) -> None:
    try:
        decode(text)
    except MalformedForm:
        return


@pytest.mark.parametrize("text", ["a=1&a[b]=2", "a[b]=2&a=1", "&".join(["a=1"] * 20_000), "a" + "[b]" * 40 + "=1"])
def test_a_form_that_contradicts_itself_or_is_endless_is_refused(text: str) -> None:
    with pytest.raises(MalformedForm):
        decode(text)


def test_a_column_name_with_brackets_is_a_value_like_any_other() -> None:
    form = decode("parameters[columns][0]=payment_metadata[order]&parameters[columns][1]=net")

    assert form == {"parameters": {"columns": ["payment_metadata[order]", "net"]}}
