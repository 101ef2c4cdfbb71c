"""How operators that move data, and bodies, relate the scales of channels; see `channel_scales`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute, attribute_int
from graphopt.ir.graphs import bodies
from graphopt.quantization.channel_scales import MOST, Axes, Unknowns, Visit, is_nothing, rule

__all__ = ["is_zero"]


def is_zero(value: ir.Value) -> bool:
    """Whether it is a constant of zeros alone, or empty."""
    return is_nothing(value)


def _other(v: Visit) -> ir.Value | None:
    """The output for a node's first input, and the other way round; None for its other inputs."""
    if v.value is v.node.outputs[0]:
        return v.input(0)
    return v.node.outputs[0] if v.value is v.input(0) else None


@rule("Transpose")
def transpose(v: Visit) -> None:
    rank = v.solver.facts.rank(v.value)
    other = _other(v)
    if rank is None or other is None:
        v.fix()
        return
    given = attribute(v.node, "perm")
    perm = [int(p) for p in given] if isinstance(given, tuple) else list(reversed(range(rank)))
    moved = [perm[axis] if v.value is v.node.outputs[0] else perm.index(axis) for axis in v.axes]
    order = sorted(range(len(moved)), key=lambda i: moved[i])
    v.solver.tie(other, tuple(moved[i] for i in order), v.scales.transpose(order))


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(v: Visit) -> None:
    """Axes that stay whole, and fixed ones that are joined or cut."""
    other = _other(v)
    source = v.solver.facts.dims(v.value)
    target = v.solver.facts.dims(other) if other is not None else None
    if other is None or source is None or target is None:
        v.fix()
        return
    blocks = [b for b in _blocks(source, target) if any(axis in b[0] for axis in v.axes)]
    whole = [axis for first, _ in blocks for axis in first]
    found = v.narrowed(whole)
    if found is None:
        return
    axes, scales = found
    full: list[int] = []
    after: list[int] = []
    for first, second in blocks:
        is_cut = len(first) > 1 or len(second) > 1
        full += [axis for axis in first if axis in axes or is_cut]
        after += second
    known = [dim for axis in full if isinstance(dim := source[axis], int)]
    shape = [dim for axis in after if isinstance(dim := target[axis], int)]
    if len(shape) < len(after) or len(known) < len(full):
        v.fix()
        return
    spread = _spread(axes, scales, full, known)
    if spread is None or spread.size != np.prod(shape, dtype=np.int64):
        v.fix()
        return
    # Axes of length 1 have no channels to tell apart.
    kept = [(axis, n) for axis, n in zip(after, shape, strict=True) if n != 1]
    kept = kept or [(axis, n) for axis, n in zip(after, shape, strict=True)][:1]
    v.solver.tie(other, tuple(axis for axis, _ in kept), spread.reshape([n for _, n in kept]))


def _spread(axes: Axes, scales: Unknowns, full: Sequence[int], lengths: Sequence[int]) -> Unknowns | None:
    """The same scales along more axes."""
    if np.prod(lengths, dtype=np.int64) > MOST:
        return None
    dims = [n if axis in axes else 1 for axis, n in zip(full, lengths, strict=True)]
    return np.broadcast_to(scales.reshape(dims), lengths)


def _blocks(source: Sequence[object], target: Sequence[object]) -> list[tuple[list[int], list[int]]]:
    """Which axes become which: matched from both ends as far as dims are equal, or fixed with one product."""
    front, i, j = _matched(source, target)
    back, _, _ = _matched(source[i:][::-1], target[j:][::-1])
    ends = len(source) - 1, len(target) - 1
    turned = [([ends[0] - a for a in reversed(x)], [ends[1] - b for b in reversed(y)]) for x, y in back]
    return front + turned[::-1]


def _matched(
    source: Sequence[object], target: Sequence[object]
) -> tuple[list[tuple[list[int], list[int]]], int, int]:
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) and j < len(target):
        if source[i] == target[j]:
            found.append(([i], [j]))
            i, j = i + 1, j + 1
            continue
        a, b = _product(source, target, i, j)
        if not a:
            break
        found.append((list(range(i, i + a)), list(range(j, j + b))))
        i, j = i + a, j + b
    return found, i, j


def _product(source: Sequence[object], target: Sequence[object], i: int, j: int) -> tuple[int, int]:
    """How many fixed dims from here on have one product."""
    a = b = 0
    first = second = 1
    while True:
        if first == second and a and b:
            return a, b
        if a == 0 or (first < second and b):
            given = source[i + a] if i + a < len(source) else None
            if not isinstance(given, int) or given < 1:
                return 0, 0
            first, a = first * given, a + 1
        else:
            given = target[j + b] if j + b < len(target) else None
            if not isinstance(given, int) or given < 1:
                return 0, 0
            second, b = second * given, b + 1


@rule("Expand", "Tile")
def repetition(v: Visit) -> None:
    """Along axes of which nothing is repeated."""
    other = _other(v)
    source = v.solver.facts.dims(v.value)
    target = v.solver.facts.dims(other) if other is not None else None
    if other is None or source is None or target is None:
        v.fix()
        return
    shift = len(target) - len(source)
    same = [
        i
        for i, dim in enumerate(source)
        if i + shift >= 0 and isinstance(dim, int) and target[i + shift] == dim
    ]
    found = v.narrowed(same)
    if found is not None:
        v.solver.tie(other, tuple(axis + shift for axis in found[0]), found[1])


@rule("Resize", "Upsample")
def resize(v: Visit) -> None:
    """Between neighbours of one channel; what lies outside may be a number of its own."""
    if attribute(v.node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        v.fix()
    else:
        repetition(v)


@rule("Pad")
def pad(v: Visit) -> None:
    """With zeros, or with what is there; not along these axes."""
    other, rank = _other(v), v.solver.facts.rank(v.value)
    given = attribute(v.node, "pads", ()) if v.solver.opset < 11 else constants.array(v.input(1))
    value = v.input(2)
    number = attribute(v.node, "value", 0.0) if value is None else constants.uniform(value)
    mode = attribute(v.node, "mode", "constant")
    has_axes = v.input(3) is not None
    if other is None or rank is None or given is None or has_axes or (mode == "constant" and number != 0):
        v.fix()
        return
    ends = np.asarray(given).reshape(2, rank)
    found = v.narrowed([axis for axis in range(rank) if not ends[:, axis].any()])
    if found is not None:
        v.solver.tie(other, *found)


@rule("Concat")
def concat(v: Visit) -> None:
    out = v.node.outputs[0]
    rank = v.solver.facts.rank(out)
    if rank is None:
        v.fix()
        return
    _parts(v, out, v.node.inputs, attribute_int(v.node, "axis", 0) % rank)


@rule("Split")
def split(v: Visit) -> None:
    x = v.input(0)
    rank = v.solver.facts.rank(v.value)
    if x is None or rank is None:
        v.fix()
        return
    _parts(v, x, v.node.outputs, attribute_int(v.node, "axis", 0) % rank)


def _parts(v: Visit, whole: ir.Value, parts: Sequence[ir.Value | None], axis: int) -> None:
    scales = v.scales if v.value is whole else v.solver.of(whole, v.axes)
    if axis not in v.axes:
        for value in (whole, *parts):
            v.solver.tie(value, v.axes, v.scales)
        return
    start = 0
    for value in parts:
        dims = v.solver.facts.dims(value) if value is not None else None
        length = dims[axis] if dims is not None else None
        if scales is None or not isinstance(length, int):
            v.fix()
            return
        # A part that is joined twice is visited once.
        v.solver.tie(value, v.axes, scales.take(range(start, start + length), v.axes.index(axis)))
        start += length


@rule("Slice")
def slice_(v: Visit) -> None:
    x, out, rank = v.input(0), v.node.outputs[0], v.solver.facts.rank(v.value)
    names = ("starts", "ends", "axes", "steps")
    given = [
        constants.array(v.input(i + 1)) if v.solver.opset >= 10 else attribute(v.node, name)
        for i, name in enumerate(names)
    ]
    if x is None or rank is None or v.value not in (x, out) or given[0] is None or given[1] is None:
        v.fix()
        return
    if v.solver.opset >= 10 and any(v.input(i) is not None and given[i - 1] is None for i in (3, 4)):
        v.fix()
        return
    starts, ends = (np.asarray(a).reshape(-1) for a in given[:2])
    axes = np.arange(starts.size) if given[2] is None else np.asarray(given[2]).reshape(-1) % rank
    steps = np.ones_like(starts) if given[3] is None else np.asarray(given[3]).reshape(-1)
    whole = v.scales if v.value is x else v.solver.of(x, v.axes)
    if whole is None:
        v.fix()
        return
    cut = [slice(None)] * len(v.axes)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if int(axis) in v.axes:
            place = v.axes.index(int(axis))
            # As the operator has it: ends far beyond, and counting from behind.
            cut[place] = slice(int(start), None if step < 0 and end < -(1 << 30) else int(end), int(step))
    v.solver.tie(out, v.axes, whole[tuple(cut)])


@rule("Gather")
def gather(v: Visit) -> None:
    """Channels that are chosen by constants, or whole ones."""
    x, out = v.node.inputs[0], v.node.outputs[0]
    rank = v.solver.facts.rank(x) if x is not None else None
    picked = v.solver.facts.rank(v.node.inputs[1]) if v.node.inputs[1] is not None else None
    if x is None or rank is None or picked is None or v.value not in (x, out):
        v.fix()
        return
    axis = attribute_int(v.node, "axis", 0) % rank
    left = [i for i in range(rank) if i != axis]
    after = [i if i < axis else i + picked - 1 for i in left]
    indices = constants.array(v.node.inputs[1])
    own, target = (left, after) if v.value is x else (after, left)
    other = out if v.value is x else x
    chosen = axis if v.value is x else (axis if picked == 1 else None)
    if indices is not None and indices.ndim == 1 and chosen in v.axes:
        whole = v.scales if v.value is x else v.solver.of(x, v.axes)
        if whole is None:
            v.fix()
        else:
            v.solver.tie(out, v.axes, whole.take(indices.astype(np.int64), v.axes.index(axis)))
        return
    if indices is not None and indices.ndim == 0 and v.value is x and axis in v.axes and len(v.axes) > 1:
        place = v.axes.index(axis)
        rest = tuple(after[left.index(i)] for i in v.axes if i != axis)
        v.solver.tie(out, rest, np.take(v.scales, np.asarray(indices), place))
        return
    found = v.narrowed(own)
    if found is not None:
        v.solver.tie(other, tuple(target[own.index(i)] for i in found[0]), found[1])


# ------------------------------------------------------------------ bodies


@rule("If")
def if_(v: Visit) -> None:
    """A result of one branch is that of the other."""
    branches = bodies(v.node)
    for results in (v.node.outputs, *(branch.outputs for branch in branches)):
        if v.value in results:
            places = [i for i, value in enumerate(results) if value is v.value]
            for place in places:
                for value in (v.node.outputs[place], *(branch.outputs[place] for branch in branches)):
                    v.solver.tie(value, v.axes, v.scales)
            return
    v.fix()


@rule("Loop")
def loop(v: Visit) -> None:
    """A carried value has the same scales before, in and after every iteration."""
    body = bodies(v.node)[0]
    count = len(body.inputs) - 2
    carried = [
        (v.node.inputs[i + 2], body.inputs[i + 2], body.outputs[i + 1], v.node.outputs[i])
        for i in range(count)
    ]
    others = (
        *v.node.inputs[:2],
        *body.inputs[:2],
        body.outputs[0],
        *body.outputs[count + 1 :],
        *v.node.outputs[count:],
    )
    _carry(v, carried, others)


@rule("Scan")
def scan(v: Visit) -> None:
    body = bodies(v.node)[0]
    count = len(body.inputs) - attribute_int(v.node, "num_scan_inputs", 0)
    if v.solver.opset < 9:
        v.fix()
        return
    carried = [(v.node.inputs[i], body.inputs[i], body.outputs[i], v.node.outputs[i]) for i in range(count)]
    others = (
        *v.node.inputs[count:],
        *body.inputs[count:],
        *body.outputs[count:],
        *v.node.outputs[count:],
    )
    _carry(v, carried, others)


def _carry(
    v: Visit, carried: Sequence[tuple[ir.Value | None, ...]], others: Sequence[ir.Value | None]
) -> None:
    if v.value in others or any(row.count(v.value) and None in row for row in carried):
        v.fix()
        return
    for row in carried:
        if v.value in row:
            for value in row:
                v.solver.tie(value, v.axes, v.scales)
