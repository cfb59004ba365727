"""Values of options: a wrong one is answered with those that are allowed."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import typer

E = TypeVar("E", bound=StrEnum)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers from `least` to `most`, for typer's `parser`."""

    def number(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = least - 1
        if found < least or (most is not None and found > most):
            raise typer.BadParameter(f"{text} is not a whole number {_range(least, most)}")
        return found

    return number


PORT = whole(0, 65535)


def decimal(least: float) -> Callable[[str], float]:
    """A parser of numbers from `least` on."""

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = least - 1
        if not least <= found < float("inf"):
            raise typer.BadParameter(f"{text} is not a number {_range(least, None)}")
        return found

    return number


def choice(words: type[E], *, help: str) -> Any:
    """An option that takes one of these words, completed in a shell."""

    def word(text: str) -> E:
        if text not in set(words):
            raise typer.BadParameter(f"{text} is not one of {', '.join(words)}")
        return words(text)

    def complete(incomplete: str) -> list[str]:
        return [one for one in words if one.startswith(incomplete)]

    return typer.Option(help=f"{help} {', '.join(words)}.", parser=word, autocompletion=complete, metavar="WORD")


def _range(least: float, most: float | None) -> str:
    return f"from {least} on" if most is None else f"from {least} to {most}"
