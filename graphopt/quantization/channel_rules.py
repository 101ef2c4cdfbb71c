"""How operators that compute relate the scales of their channels; see `channel_scales`."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute_int, axes_of
from graphopt.ir.quantizable import Weight, weight_of
from graphopt.quantization import channel_movement
from graphopt.quantization.channel_scales import Axes, Unknowns, Visit, rule

__all__ = ["GIVEN", "TAKEN", "TAKEN_EACH"]

# Parts of a constant's scales along an axis: those that undo what its input has, those that its output gets.
TAKEN, GIVEN = "taken along {}", "given along {}"
# The same where each channel has a filter, or several, of its own.
TAKEN_EACH = "taken along 0 each {}"


@rule("Relu", "LeakyRelu", "Identity", "Neg", "Abs")
def homogeneous(v: Visit) -> None:
    """f(s x) = s f(x) for s > 0."""
    v.solver.tie(v.input(0), v.axes, v.scales)
    v.solver.tie(v.node.outputs[0], v.axes, v.scales)


@rule("Dropout")
def dropout(v: Visit) -> None:
    """It only trains: the mode is an input since opset 12."""
    if v.input(2) is not None and constants.uniform(v.input(2)) is not False:
        v.fix()
    else:
        homogeneous(v)


@rule("PRelu")
def prelu(v: Visit) -> None:
    """The slope is a ratio: it stays."""
    if v.value is v.input(1):
        v.fix()
    else:
        homogeneous(v)


@rule("Add", "Sub", "Sum", "Max", "Min", "Mean", "Where")
def alike(v: Visit) -> None:
    """All that is added, compared or chosen from has the scales of the result."""
    out = v.node.outputs[0]
    rank, own = v.solver.facts.rank(out), v.solver.facts.rank(v.value)
    if rank is None or own is None:
        v.fix()
        return
    axes = tuple(axis + rank - own for axis in v.axes)
    if v.node.op_type == "Where" and v.value is v.node.inputs[0]:
        v.fix()
        return
    v.solver.tie(out, axes, v.scales)
    for value in v.node.inputs[1 if v.node.op_type == "Where" else 0 :]:
        if value is not None:
            _tie_operand(v, value, axes, rank)


def _tie_operand(v: Visit, value: ir.Value, axes: Axes, rank: int) -> None:
    own = v.solver.facts.rank(value)
    if own is None or min(axes) < rank - own:
        # It is added to all channels alike, so that they can't be told apart; zeros don't matter.
        if not channel_movement.is_zero(value):
            v.fix()
    else:
        v.solver.tie(value, tuple(axis - rank + own for axis in axes), v.scales)


@rule("Mul", "Div")
def product(v: Visit) -> None:
    """A constant factor takes what input and output differ by; of two others one stays."""
    first, second, out = v.node.inputs[0], v.node.inputs[1], v.node.outputs[0]
    rank = v.solver.facts.rank(out)
    assert first is not None and second is not None
    if rank is None or (v.node.op_type == "Div" and constants.constant(second) is None):
        v.fix()
        return
    factor = second if constants.constant(second) is not None else first
    if constants.constant(factor) is None:
        own = v.solver.facts.rank(v.value)
        for value in (first, second):
            other = v.solver.facts.rank(value)
            axes = tuple(axis + (other or 0) - (own or 0) for axis in v.axes)
            if own is not None and other is not None and min(axes) >= 0 and value is not v.value:
                v.solver.of(value, axes)
        v.solver.postpone(v.node)
        return
    data = first if factor is second else second
    if constants.constant(data) is not None:
        v.fix()
    elif v.value is factor:
        _factor_role(v, data, out, rank)
    else:
        _scaled(v, data, factor, out, rank)


def _place(v: Visit, value: ir.Value, rank: int) -> tuple[int, int] | None:
    """The one axis of a factor that is longer than 1: its number in the factor and in the output."""
    dims = v.solver.facts.dims(value)
    longer = [i for i, dim in enumerate(dims or ()) if dim != 1]
    if dims is None or len(longer) != 1:
        return None
    return longer[0], longer[0] + rank - len(dims)


def _factor_role(v: Visit, data: ir.Value, out: ir.Value, rank: int) -> None:
    place, own = _place(v, v.value, rank), v.solver.facts.rank(data)
    if place is None or own is None or v.node.op_type == "Div":
        v.fix()
    elif v.role == GIVEN.format(place[0]):
        v.solver.tie(out, (place[1],), v.scales)
    elif v.role != TAKEN.format(place[0]) or place[1] - rank + own < 0:
        v.fix()
    else:
        v.solver.tie(data, (place[1] - rank + own,), v.scales, inverse=True)


def _scaled(v: Visit, data: ir.Value, factor: ir.Value, out: ir.Value, rank: int) -> None:
    own = v.solver.facts.rank(data)
    if own is None:
        v.fix()
        return
    place, shift = _place(v, factor, rank), 0 if v.value is out else rank - own
    along = tuple(axis + shift for axis in v.axes)
    if place is None or place[1] not in along or v.node.op_type == "Div":
        # The factor does not tell these channels apart: they go through.
        if min(along) < rank - own:
            v.fix()
            return
        v.solver.tie(out, along, v.scales)
        v.solver.tie(data, tuple(axis - rank + own for axis in along), v.scales)
        return
    found = v.narrowed((place[1] - shift,))
    assert found is not None
    given = v.value is out
    part = v.solver.part(factor, (GIVEN if given else TAKEN).format(place[0]), found[1].size)
    v.solver.tie_part(part, found[1], inverse=not given)


@rule("MatMul", "Gemm")
def matrix_product(v: Visit) -> None:
    """The weight takes what its input and its output have; of two activations the summed axis cancels."""
    weight = weight_of(v.node)
    if weight is None:
        if v.node.op_type == "MatMul":
            _product_of_activations(v)
        else:
            v.fix()
        return
    x, out = v.node.inputs[0], v.node.outputs[0]
    rank = v.solver.facts.rank(out)
    assert x is not None and weight.depth is not None
    if rank is None or attribute_int(v.node, "transA", 0) or v.solver.facts.rank(x) != rank:
        v.fix()
    elif v.value is weight.value:
        _weight_part(v, weight, x, out, rank)
    elif v.value is v.input(2):
        _bias(v, v.value, out, rank - 1)
    elif rank - 1 in v.axes:
        _weighted(v, weight, rank - 1, weight.depth)
    elif v.node.op_type == "Gemm":
        # Rows are not mixed, but a bias is the same for all.
        v.fix()
    else:
        v.solver.tie(x, v.axes, v.scales)
        v.solver.tie(out, v.axes, v.scales)


def _weight_part(v: Visit, weight: Weight, x: ir.Value, out: ir.Value, rank: int) -> None:
    if v.role == GIVEN.format(weight.channels):
        v.solver.tie(out, (rank - 1,), v.scales)
    elif v.role == TAKEN.format(weight.depth):
        v.solver.tie(x, (rank - 1,), v.scales, inverse=True)
    else:
        v.fix()


def _weighted(v: Visit, weight: Weight, axis: int, depth: int) -> None:
    """What comes in goes to the weight, and what goes out to the weight and the bias."""
    found = v.narrowed((axis,))
    if found is None:
        return
    given = v.value is v.node.outputs[0]
    role = GIVEN.format(weight.channels) if given else TAKEN.format(depth)
    part = v.solver.part(weight.value, role, found[1].size)
    v.solver.tie_part(part, found[1], inverse=not given)
    bias = v.input(2)
    if given and bias is not None:
        _tie_bias(v, bias, found[1])


def _tie_bias(v: Visit, bias: ir.Value, scales: Unknowns) -> None:
    rank = v.solver.facts.rank(bias)
    if not rank:
        v.solver.fix(scales)
    else:
        v.solver.tie(bias, (rank - 1,), scales)


def _bias(v: Visit, bias: ir.Value, out: ir.Value, axis: int) -> None:
    rank = v.solver.facts.rank(bias)
    found = v.narrowed((rank - 1,)) if rank else None
    if found is None or v.role:
        v.fix()
    else:
        v.solver.tie(out, (axis,), found[1])


def _product_of_activations(v: Visit) -> None:
    """Softmax(..) @ V: rows are mixed, not channels. Q @ K: what one has more the other has less."""
    a, b, out = v.node.inputs[0], v.node.inputs[1], v.node.outputs[0]
    assert a is not None and b is not None
    rank = v.solver.facts.rank(out)
    if rank is None or rank < 2 or v.solver.facts.rank(a) != rank or v.solver.facts.rank(b) != rank:
        v.fix()
        return
    if v.value is a and v.value is b:
        v.fix()
        return
    row, column = rank - 2, rank - 1
    # The summed axis of a, of b; the one that goes on.
    summed, kept = {a: (column, row), b: (row, column)}.get(v.value, (None, None))
    if summed in v.axes and kept in v.axes:
        v.fix()
    elif summed in v.axes:
        other, place = (b, row) if v.value is a else (a, column)
        axes = tuple(place if axis == summed else axis for axis in v.axes)
        order = sorted(range(len(axes)), key=lambda i: axes[i])
        v.solver.tie(other, tuple(axes[i] for i in order), v.scales.transpose(order), inverse=True)
    elif v.value is out and row in v.axes and column in v.axes:
        v.fix()
    elif v.value is out:
        source = b if column in v.axes else a
        v.solver.tie(source, v.axes, v.scales)
    else:
        v.solver.tie(out, v.axes, v.scales)


@rule("Conv", "ConvTranspose")
def convolution(v: Visit) -> None:
    """As a matrix product over channels; where each channel has its own filter, that filter takes both."""
    weight = weight_of(v.node)
    x, out, groups = v.node.inputs[0], v.node.outputs[0], attribute_int(v.node, "group", 1)
    if weight is None or v.value is None:
        v.fix()
        return
    is_plain, is_transposed = groups == 1, v.node.op_type == "ConvTranspose"
    is_depthwise = not (is_plain or is_transposed) and weight.tensor.shape[1] == 1
    depth = 0 if is_transposed else 1
    if v.value is weight.value:
        if v.role == GIVEN.format(weight.channels) and (is_plain or not is_transposed):
            v.solver.tie(out, (1,), v.scales)
        elif (v.role == TAKEN.format(depth) and is_plain) or (
            v.role == TAKEN_EACH.format(groups) and is_depthwise
        ):
            v.solver.tie(x, (1,), v.scales, inverse=True)
        else:
            v.fix()
    elif v.value is v.input(2):
        _bias(v, v.value, out, 1)
    elif is_plain or (v.value is out and not is_transposed):
        _weighted(v, weight, 1, depth)
    elif v.value is x and is_depthwise:
        found = v.narrowed((1,))
        if found is not None:
            part = v.solver.part(weight.value, TAKEN_EACH.format(groups), found[1].size)
            v.solver.tie_part(part, found[1], inverse=True)
    else:
        v.fix()


@rule("LayerNormalization", "RMSNormalization")
def normalization(v: Visit) -> None:
    """What it gives has the scales of its constants; what it takes is divided by its own size."""
    out, x = v.node.outputs[0], v.node.inputs[0]
    rank = v.solver.facts.rank(out)
    if rank is None or attribute_int(v.node, "axis", -1) not in (-1, rank - 1) or v.value is x:
        v.fix()
        return
    _affine(v, out, rank - 1)


@rule("BatchNormalization", "InstanceNormalization", "GroupNormalization")
def channel_normalization(v: Visit) -> None:
    """The same, with channels at axis 1."""
    out = v.node.outputs[0]
    is_affine = v.value in (out, *v.node.inputs[1:3])
    if not is_affine or attribute_int(v.node, "training_mode", 0):
        v.fix()
        return
    _affine(v, out, 1)


def _affine(v: Visit, out: ir.Value, axis: int) -> None:
    """Input 1 is multiplied with each channel, input 2 added to it."""
    if v.value is not out and v.role:
        v.fix()
        return
    found = v.narrowed((axis if v.value is out else 0,))
    if found is None:
        return
    v.solver.tie(out, (axis,), found[1])
    for value in v.node.inputs[1:3]:
        v.solver.tie(value, (0,), found[1])


@rule("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool")
def pool(v: Visit) -> None:
    found = v.narrowed((0, 1))
    if found is not None:
        v.solver.tie(v.input(0), *found)
        v.solver.tie(v.node.outputs[0], *found)


@rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
def reduction(v: Visit) -> None:
    x = v.input(0)
    rank = v.solver.facts.rank(x) if x is not None else None
    axes = axes_of(v.node, v.solver.opset)
    if rank is None or not axes:
        v.fix()
        return
    reduced = {axis % rank for axis in axes}
    left = [axis for axis in range(rank) if axis not in reduced]
    kept = bool(attribute_int(v.node, "keepdims", 1))
    after = left if kept else list(range(len(left)))
    source, target = (after, left) if v.value is v.node.outputs[0] else (left, after)
    found = v.narrowed(source)
    if found is not None:
        moved = tuple(target[source.index(axis)] for axis in found[0])
        v.solver.tie(x if v.value is v.node.outputs[0] else v.node.outputs[0], moved, found[1])


@rule("Attention")
def attention(v: Visit) -> None:
    """V goes through, head by head; what Q has more K has less. Not with a cache."""
    q, k, values = v.node.inputs[:3]
    out = v.node.outputs[0]
    assert q is not None and k is not None and values is not None
    rank = v.solver.facts.rank(out)
    heads = attribute_int(v.node, "q_num_heads", 0), attribute_int(v.node, "kv_num_heads", 0)
    has_more = any(value is not None for value in v.node.inputs[4:]) or len(v.node.outputs) > 1
    is_alone = [q, k, values].count(v.value) < 2
    if rank != 3 or not all(heads) or has_more or not is_alone or 2 not in v.axes:
        v.fix()
        return
    found = v.narrowed((2,))
    assert found is not None
    scales, times = found[1], heads[0] // heads[1]
    if v.value is q or v.value is out:
        # Several heads of Q share one of K and V.
        grouped = scales.reshape(heads[1], times, -1)
        v.solver.equate(grouped[:, :1], grouped)
        v.solver.tie(k if v.value is q else values, (2,), grouped[:, 0].reshape(-1), inverse=v.value is q)
    elif v.value is k or v.value is values:
        spread = scales.reshape(heads[1], 1, -1).repeat(times, 1).reshape(-1)
        v.solver.tie(q if v.value is k else out, (2,), spread, inverse=v.value is k)
    else:
        v.fix()
