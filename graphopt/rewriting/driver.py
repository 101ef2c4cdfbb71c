"""Runs a pipeline: one worklist a group, every scope, to a common fixed point.

A rule is shown only nodes of its anchor operators. After a firing only what it touched is looked at
again: the new nodes, and what lies downstream of a change within the depth of a rule. The cost grows
with the number of nodes plus the number of firings.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.errors import GraphoptError
from graphopt.rewriting.draft import Draft, as_mapping
from graphopt.rewriting.editor import Editor
from graphopt.rewriting.match import NEEDS_OPSET, WOULD_NEED_IDENTITY, Match, Rejection, Replacement
from graphopt.rewriting.operators import building
from graphopt.rewriting.opsets import OpsetRaised
from graphopt.rewriting.passes import Pass
from graphopt.rewriting.pipeline import Group, Pipeline
from graphopt.rewriting.pricing import WOULD_BE_SLOWER, is_slower
from graphopt.rewriting.rule import ANY_OPERATOR, Rule
from graphopt.rewriting.scope import Scope
from graphopt.rewriting.spelling import NotExpressible
from graphopt.rewriting.trace import Place

# A run that fires more often than this per node of the model is a fight between two rules.
FIRINGS_PER_NODE = 20
FEWEST_FIRINGS = 1000

Progress = Callable[[str], None]


class RulesFight(GraphoptError):
    """Two rules undo each other: a fault of ours."""


class PassFault(GraphoptError):
    """A pass raised what it should not: the model it was editing can't be trusted.

    Attributes:
        pass_name: The pass.
    """

    def __init__(self, pass_name: str, error: Exception) -> None:
        super().__init__(f"pass {pass_name} failed: {type(error).__name__}: {error}")
        self.pass_name = pass_name


@dataclass(slots=True)
class _Entry:
    """A rule with its pass, and its place in the group's order."""

    order: int
    rule: Rule
    owner: Pass
    depth: int


class _Index:
    """Rules by the operator they are anchored at; those for every operator are among each one's."""

    def __init__(self, entries: list[_Entry]) -> None:
        anchored: dict[tuple[str, str], list[_Entry]] = {}
        for entry in entries:
            for key in dict.fromkeys(entry.rule.anchors):
                anchored.setdefault(key, []).append(entry)
        self._everywhere = anchored.pop(ANY_OPERATOR, [])
        self._by_anchor = {
            key: sorted((*here, *self._everywhere), key=lambda e: e.order) for key, here in anchored.items()
        }

    def at(self, node: ir.Node) -> list[_Entry]:
        return self._by_anchor.get((node.domain, node.op_type), self._everywhere)


@dataclass(slots=True)
class _Worklist:
    index: _Index
    pending: dict[ir.Node, list[_Entry]] = field(default_factory=dict)
    order: deque[ir.Node] = field(default_factory=deque)

    def add(self, node: ir.Node, entries: list[_Entry]) -> None:
        if not entries:
            return
        known = self.pending.get(node)
        if known is None:
            self.pending[node] = entries
            self.order.append(node)
        elif known is not entries and len(known) < len(self.index.at(node)):
            merged = {e.order: e for e in (*known, *entries)}
            self.pending[node] = [merged[o] for o in sorted(merged)]

    def add_downstream(self, changed: list[ir.Node], depth: int) -> None:
        """Add changed nodes and what they can matter to, each with the rules that look so far up."""
        seen, front = set(changed), changed
        for distance in range(depth):
            following: list[ir.Node] = []
            for current in front:
                entries = self.index.at(current)
                if entries:
                    self.add(current, entries if distance < 1 else [e for e in entries if e.depth > distance])
                for value in current.outputs:
                    for use in value.uses():
                        if use.node not in seen:
                            seen.add(use.node)
                            following.append(use.node)
            front = following
            if not front:
                return

    def pop(self) -> tuple[ir.Node, list[_Entry]] | None:
        while self.order:
            node = self.order.popleft()
            entries = self.pending.pop(node, None)
            if entries is not None and node.graph is not None:
                return node, entries
        return None


class Driver:
    """Applies pipelines to one editor's model.

    Args:
        editor: The model.
        strict: Let faults of rules through. Otherwise a rule that raises does not fire there, and the
            trace keeps what it raised.
        after_group: Called after each group.
    """

    def __init__(
        self, editor: Editor, *, strict: bool = False, after_group: Callable[[Editor], None] | None = None
    ) -> None:
        self.editor = editor
        self._strict = strict
        self._after_group = after_group
        self._seen: dict[str, int] = {}
        self._rested: dict[str, int] = {}
        self._limit = FEWEST_FIRINGS

    def run(self, pipeline: Pipeline, progress: Progress | None = None) -> None:
        """Run every group in order.

        Raises:
            RulesFight: If a group does not come to rest.
        """
        for group in pipeline.groups:
            if progress is not None:
                progress(str(group.passes[-1].name))
            while True:
                try:
                    self._run_group(group)
                    break
                except OpsetRaised:
                    self._seen.clear()
                    self._rested.clear()
            if self._after_group is not None:
                self._after_group(self.editor)

    def _run_group(self, group: Group) -> None:
        size = self.editor.where.count
        self._limit = len(self.editor.trace.firings) + max(FEWEST_FIRINGS, FIRINGS_PER_NODE * size)
        entries = [
            _Entry(order, rule, owner, rule.depth)
            for order, (owner, rule) in enumerate((p, r) for p in group.passes for r in p.rules)
        ]
        runners = [p for p in group.passes if not p.rules]
        while True:
            start = self.editor.clock
            for owner in runners:
                try:
                    self._run_pass(owner)
                except (GraphoptError, OpsetRaised):
                    raise
                except Exception as error:
                    if self._strict:
                        raise
                    raise PassFault(owner.name, error) from error
            self._apply_rules(group, entries)
            if self.editor.clock == start or not runners:
                return

    # ------------------------------------------------------------------ rules

    def _apply_rules(self, group: Group, entries: list[_Entry]) -> None:
        if not entries:
            return
        depth = max(e.depth for e in entries)
        work = _Worklist(_Index(entries))
        self._seed(work, group, entries, depth)
        now = self.editor.clock
        statistics = self.editor.trace.statistics
        clock = time.perf_counter
        while True:
            item = work.pop()
            if item is None:
                # What many firings touched is looked at once, after what was waiting anyway.
                if self.editor.clock == now:
                    break
                work.add_downstream(self.editor.touched_since(now), depth)
                now = self.editor.clock
                continue
            node, waiting = item
            if not self.editor.where.is_open(node):
                continue
            for entry in waiting:
                start = clock()
                fired = self._try(entry, node)
                statistics[entry.owner.name].seconds += clock() - start
                if fired:
                    if node.graph is not None:
                        work.add(node, work.index.at(node))
                    break
        for owner in group.passes:
            if owner.rules:
                self._seen[owner.name] = self.editor.clock

    def _seed(self, work: _Worklist, group: Group, entries: list[_Entry], depth: int) -> None:
        """Nodes that a pass has not seen yet, in graph order, then what changed since it looked last."""
        fresh = [p for p in group.passes if p.rules and p.name not in self._seen]
        names = {p.name for p in fresh}
        if fresh:
            chosen = _Index([e for e in entries if e.owner.name in names])
            for node in self.editor.where.in_order():
                work.add(node, chosen.at(node))
        known = {self._seen[p.name] for p in group.passes if p.name in self._seen}
        if known:
            work.add_downstream(self.editor.touched_since(min(known)), depth)

    def _try(self, entry: _Entry, node: ir.Node) -> bool:
        """One rule at one node: True if it fired."""
        place = Match(self.editor, entry.owner, node)
        draft: Draft | None = None
        try:
            extra = entry.rule.find(place)
            if extra is None:
                if self.editor.trace.explain == entry.owner.name:
                    self._explain_miss(entry, place)
                return False
            if isinstance(extra, Rejection):
                return self._reject(entry, node, extra)
            # Most rules end here.
            draft = Draft(self.editor, node)
            return self._fire(entry, place, extra, draft)
        except NotExpressible as error:
            if draft is not None:
                draft.discard()
            return self._reject(entry, node, Rejection(str(error)))
        except (GraphoptError, OpsetRaised):
            raise
        except Exception as error:
            if self._strict:
                raise
            # Nothing was put in place yet: the graph is as it was.
            if draft is not None:
                draft.discard()
            self.editor.trace.faults.setdefault(f"{entry.owner.name}/{entry.rule.name}", repr(error))
            return False

    def _fire(self, entry: _Entry, place: Match, extra: tuple[object, ...], draft: Draft) -> bool:
        editor, node = self.editor, place.root
        if entry.rule.opset > place.opset:
            refusal = self._tried(entry, place, extra)
            if refusal is None or isinstance(refusal, Rejection):
                return self._reject(entry, node, refusal) if refusal is not None else False
            if not editor.raise_opset(entry.rule.opset):
                return self._reject(entry, node, Rejection(f"{NEEDS_OPSET}: {entry.rule.opset}"))
            raise OpsetRaised
        with building(draft):
            built = entry.rule.replace(place, extra)
        if built is None or isinstance(built, Rejection):
            draft.discard()
            return self._reject(entry, node, built) if built is not None else False
        draft.replacements = as_mapping(node, built)
        if all(old is new for old, new in draft.replacements.items()):
            draft.discard()
            return False
        stuck = editor.can_take_over(draft)
        if stuck is not None:
            draft.discard()
            return self._reject(entry, node, Rejection(WOULD_NEED_IDENTITY, stuck))
        if entry.rule.priced and is_slower(draft):
            draft.discard()
            return self._reject(entry, node, Rejection(WOULD_BE_SLOWER, node.outputs[0]))
        # Asked last: most rules that look at every node of an operator build nothing.
        identity = editor.allow(entry.owner, entry.rule.name, node)
        if identity is None:
            draft.discard()
            return False
        editor.commit(draft, identity, place)
        self._watch()
        return True

    def _tried(
        self, entry: _Entry, place: Match, extra: tuple[object, ...]
    ) -> Replacement | Rejection | None:
        """What the rule would build, thrown away: the opset is raised for nothing less."""
        if entry.rule.pattern is not None:
            return ()
        draft = Draft(self.editor, place.root, entry.rule.opset)
        try:
            with building(draft):
                return entry.rule.replace(place, extra)
        finally:
            draft.discard()

    def _reject(self, entry: _Entry, node: ir.Node, rejection: Rejection) -> bool:
        trace = self.editor.trace
        trace.statistics[entry.owner.name].rejected += 1
        if trace.explain == entry.owner.name:
            trace.miss(self._place(entry, node), str(rejection))
        return False

    def _explain_miss(self, entry: _Entry, place: Match) -> None:
        """A pattern that got at least two operators far is worth a word."""
        from graphopt.rewriting.matcher import nodes_matched

        if entry.rule.pattern is not None:
            found = nodes_matched(entry.rule.pattern, place)
            if found >= 2:
                reason = f"only {found} operators of the pattern are there"
                self.editor.trace.miss(self._place(entry, place.root), reason)

    def _place(self, entry: _Entry, node: ir.Node) -> Place:
        region = self.editor.regions.get(node.graph) if node.graph is not None else None
        anchor = node.outputs[0].name or node.op_type if node.outputs else node.op_type
        return Place(entry.owner.name, entry.rule.name, region.path if region else "", anchor)

    def _watch(self) -> None:
        firings = self.editor.trace.firings
        if len(firings) <= self._limit:
            return
        recent = Counter(f.id.place.pass_name + "/" + f.id.place.rule for f in firings[-200:])
        names = " and ".join(sorted(name for name, _ in recent.most_common(2)))
        raise RulesFight(
            f"the rewriting does not come to rest: {names} undo each other", node=str(firings[-1].id)
        )

    # ------------------------------------------------------------------ passes that run over graphs

    def _run_pass(self, owner: Pass) -> None:
        start = time.perf_counter()
        editor = self.editor
        if self._rested.get(str(owner)) == editor.clock:
            return  # It found nothing to do when it looked last, and nothing has changed since.
        self._rested[str(owner)] = editor.clock
        if _overrides(owner, "run_model"):
            self._one_run(owner, "", lambda: owner.run_model(editor))
        if _overrides(owner, "run"):
            for region in editor.where.inner_first():
                if region.graph in editor.regions:
                    scope = Scope(editor, region, owner)
                    self._one_run(owner, region.path, lambda scope=scope: owner.run(scope))  # type: ignore[misc]
        editor.trace.statistics[owner.name].seconds += time.perf_counter() - start

    def _one_run(self, owner: Pass, path: str, run: Callable[[], None]) -> None:
        editor = self.editor
        editor.end_step()
        if owner.marks_steps:
            run()
            editor.end_step()
            self._watch()
            return
        identity = editor.trace.allow(Place(owner.name, "run", path, ""))
        if identity is None:
            return
        before = editor.clock
        run()
        editor.finish_run(identity, before)
        self._watch()


def _overrides(owner: Pass, method: str) -> bool:
    return getattr(type(owner), method) is not getattr(Pass, method)
