"""The last durations of each group, in bounded memory, and what share of them is shorter.

This module must not know what takes that long.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Final

_MAX_KEYS: Final = 64
"""Some 40 kB each, with 1,000 durations."""


class Windows:
    """The last durations of each key. Not thread-safe.

    Args:
        size: durations that each window holds.
        keys: how many have one of their own; the rest share one.
    """

    __slots__ = ("_keys", "_size", "_windows")

    def __init__(self, size: int, keys: int = _MAX_KEYS) -> None:
        self._size = size
        self._keys = keys
        self._windows: dict[object, Window] = {}

    def of(self, key: object) -> "Window":
        """The window of ``key``, or that of all for whom there is no room."""
        if key not in self._windows and len(self._windows) >= self._keys:
            key = None
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(self._size)
        return window


class Window:
    """The last durations, in the order of their ends and of their length: an exact quantile in microseconds."""

    __slots__ = ("_by_end", "_by_length", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._by_end: deque[float] = deque()
        self._by_length: list[float] = []

    def quantile(self, share: float, enough: int) -> float | None:
        """What ``share`` of the durations do not exceed; ``None`` while fewer than ``enough`` are known."""
        size = len(self._by_length)
        if size < enough:
            return None
        return self._by_length[math.ceil(round(share * size, 6)) - 1]

    def add(self, seconds: float) -> None:
        """One more; the oldest of too many goes."""
        self._by_end.append(seconds)
        insort(self._by_length, seconds)
        if len(self._by_end) > self._size:
            oldest = self._by_end.popleft()
            del self._by_length[bisect_left(self._by_length, oldest)]
