"""Minimum cuts of small networks."""

from __future__ import annotations

from collections import deque

__all__ = ["UNLIMITED", "Network"]

# The capacity of an edge that no cut may go through.
UNLIMITED = 1 << 30


class Network:
    """Vertices with directed edges of whole capacities; 0 is the source and 1 the sink."""

    SOURCE = 0
    SINK = 1

    def __init__(self) -> None:
        self._edges: list[list[int]] = [[], []]
        self._ends: list[int] = []
        self._left: list[int] = []

    def vertex(self) -> int:
        """Add a vertex."""
        self._edges.append([])
        return len(self._edges) - 1

    def edge(self, start: int, end: int, capacity: int) -> None:
        """Add an edge; the cut pays its capacity where `start` is on the source's side and `end` is not."""
        if capacity <= 0 or start == end:
            return
        for a, b, left in ((start, end, capacity), (end, start, 0)):
            self._edges[a].append(len(self._ends))
            self._ends.append(b)
            self._left.append(left)

    def cut(self) -> tuple[int, set[int]]:
        """The cheapest cut: its price, and the smallest source's side that has it.

        Dinic, "Algorithm for solution of a problem of maximum flow in networks with power estimation", 1970.
        """
        price = 0
        while True:
            levels = self._levels()
            if self.SINK not in levels:
                return price, set(levels)
            places = [0] * len(self._edges)
            while (pushed := self._push(levels, places)) > 0:
                price += pushed

    def _levels(self) -> dict[int, int]:
        """Distance from the source over edges with capacity left."""
        found = {self.SOURCE: 0}
        pending = deque([self.SOURCE])
        while pending:
            vertex = pending.popleft()
            for edge in self._edges[vertex]:
                end = self._ends[edge]
                if self._left[edge] and end not in found:
                    found[end] = found[vertex] + 1
                    pending.append(end)
        return found

    def _push(self, levels: dict[int, int], places: list[int]) -> int:
        """Send flow along one more way of rising levels; 0 where there is none."""
        way: list[int] = []
        vertex = self.SOURCE
        while vertex != self.SINK:
            while places[vertex] < len(self._edges[vertex]):
                edge = self._edges[vertex][places[vertex]]
                if self._left[edge] and levels.get(self._ends[edge], -1) == levels[vertex] + 1:
                    break
                places[vertex] += 1
            else:
                if not way:
                    return 0
                back = way.pop()
                vertex = self._ends[back ^ 1]
                places[vertex] += 1
                continue
            way.append(edge)
            vertex = self._ends[edge]
        pushed = min(self._left[edge] for edge in way)
        for edge in way:
            self._left[edge] -= pushed
            self._left[edge ^ 1] += pushed
        return pushed
