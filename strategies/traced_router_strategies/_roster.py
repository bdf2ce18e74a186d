"""Who the candidates are, by id, at the cost of one look while they stay the same.

Routers pass the same sequence again and again; only when it is another one (or has visibly
changed) is it read as a whole.
"""

from collections.abc import Sequence

from traced_router.strategy import Candidate


class Roster:
    """The candidates of one group. Not locked: its owner is.

    Attributes:
        positions: of the candidates, by id.
    """

    __slots__ = ("_checked", "_length", "_source", "positions")

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self._source: Sequence[Candidate] | None = None
        self._length = 0
        self._checked = 0

    def update(self, candidates: Sequence[Candidate]) -> bool:
        """Take note of the candidates; whether they may have changed.

        A list that is altered in place keeps its identity: besides its length, one position is
        checked each time, in turn.
        """
        if candidates is self._source and len(candidates) == self._length:
            self._checked = (self._checked + 1) % self._length
            if self.positions.get(candidates[self._checked].id) == self._checked:
                return False
        self._source = candidates
        self._length = len(candidates)
        self.positions = {candidate.id: position for position, candidate in enumerate(candidates)}
        return True

    def find(self, id_: str) -> int | None:
        """Its position now; ``None`` when it is no candidate."""
        position = self.positions.get(id_)
        if position is None or self._source is None or position >= len(self._source):
            return None
        return position if self._source[position].id == id_ else None
