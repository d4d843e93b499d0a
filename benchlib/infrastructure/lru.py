"""A bounded cache for several threads."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Lru(Generic[_Key, _Value]):
    """Holds the entries used most recently; the newest one stays however heavy it is.

    Args:
        max_entries: How many entries it holds.
        max_weight: What they may weigh together; None = no limit.
        weigh: The weight of an entry.
    """

    def __init__(
        self,
        max_entries: int,
        max_weight: int | None = None,
        weigh: Callable[[_Value], int] = lambda _: 1,
    ) -> None:
        self._max_entries = max_entries
        self._max_weight = max_weight
        self._weigh = weigh
        self._entries: OrderedDict[_Key, _Value] = OrderedDict()
        self._lock = Lock()  # entries and their order of use change together

    def get(self, key: _Key) -> _Value | None:
        """The entry, which now counts as just used; None if there is none."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: _Key, value: _Value) -> None:
        """Add or replace an entry, and drop those that went unused longest."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > 1 and self._is_over():
                self._entries.popitem(last=False)

    def drop(self, key: _Key) -> None:
        """Remove an entry, if it is there."""
        with self._lock:
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Remove every entry."""
        with self._lock:
            self._entries.clear()

    def _is_over(self) -> bool:
        if len(self._entries) > self._max_entries:
            return True
        limit = self._max_weight
        return limit is not None and sum(map(self._weigh, self._entries.values())) > limit
