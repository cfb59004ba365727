"""Waiting ends with the fact, and fails by name when the fact never comes."""

import asyncio

import pytest

from tests.until import until


async def test_it_waits_for_a_fact_that_comes_later() -> None:
    fact = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, fact.set)

    await until(fact.is_set)

    assert fact.is_set()


async def test_it_waits_for_an_answer_that_has_to_be_awaited() -> None:
    answers = iter([False, [], "here"])

    async def asked() -> object:
        return next(answers)

    await until(asked)

    assert list(answers) == []


async def test_what_never_becomes_true_fails_by_name() -> None:
    with pytest.raises(AssertionError, match="never became true: pigs fly"):
        await until(lambda: False, "pigs fly", seconds=0.01)
