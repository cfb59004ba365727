"""Objects in the order of their creation, for lists with cursors."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Identified(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def created(self) -> int: ...


ItemT = TypeVar("ItemT", bound=Identified)


class Collection(Generic[ItemT]):
    """Objects in the order of their creation, found by id, and listed in both directions from a given one."""

    def __init__(self) -> None:
        self._items: list[ItemT] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[ItemT]:
        return iter(self._items)

    def add(self, item: ItemT) -> None:
        self._places[item.id] = len(self._items)
        self._items.append(item)

    def remove(self, identifier: str) -> None:
        self._items = [item for item in self._items if item.id != identifier]
        self._places = {item.id: place for place, item in enumerate(self._items)}

    def get(self, identifier: str) -> ItemT | None:
        place = self._places.get(identifier)
        return None if place is None else self._items[place]

    def older_than(self, identifier: str | None) -> Iterator[ItemT]:
        """Newest first, from just below `identifier`, or from the newest."""
        place = len(self._items) if identifier is None else self._places[identifier]
        return (self._items[number] for number in range(place - 1, -1, -1))

    def newer_than(self, identifier: str) -> Iterator[ItemT]:
        """Oldest first, from just above `identifier`."""
        return (self._items[number] for number in range(self._places[identifier] + 1, len(self._items)))
