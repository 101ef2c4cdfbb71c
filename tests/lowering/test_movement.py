"""Movement through the engine: looks at memory, one copy a chain, sizes that are data."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.backend.test.loader import load_model_tests

from graphopt.errors import ExecutionError
from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession
from tests.lowering.running import kernels_of, reference, run

OPERATORS = [
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Identity",
    "Transpose",
    "Slice",
    "Split",
    "Expand",
    "Tile",
    "Concat",
    "DepthToSpace",
    "SpaceToDepth",
    "Pad",
    "Gather",
    "GatherND",
    "GatherElements",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "TensorScatter",
    "OneHot",
    "ReverseSequence",
    "Trilu",
    "NonZero",
    "Compress",
    "Unique",
    "ConstantOfShape",
    "Range",
    "EyeLike",
    "Shape",
    "Size",
]


@cache
def standard_cases() -> dict[str, tuple[onnx.ModelProto, list[object], list[object]]]:
    """The standard's own cases of these operators."""
    found = {}
    with warnings.catch_warnings():
        # Cases of other operators overflow while they are made.
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    for case in cases:
        operators = {node.op_type for node in case.model.graph.node} if case.model else set()
        if operators <= set(OPERATORS) and case.data_sets and "expanded" not in case.name:
            inputs, outputs = case.data_sets[0]
            found[case.name] = (case.model, [_plain(x) for x in inputs], [_plain(x) for x in outputs])
    return found


def _plain(value: object) -> object:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def test_the_standards_own_cases() -> None:
    cases = standard_cases()
    assert len(cases) > 150
    for name, (model, inputs, outputs) in cases.items():
        session = InferenceSession(model, optimize=False)
        assert not session.fallbacks, name
        feeds = {value.name: x for value, x in zip(model.graph.input, inputs, strict=True)}
        for found, wanted in zip(session.run(None, feeds), outputs, strict=True):
            same_kind = type(found) is type(wanted)
            assert same_kind, name
            if isinstance(wanted, np.ndarray):
                assert found.shape == wanted.shape and (found == wanted).all(), name


def parsed(text: str, opset: int = 21) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')


def checked(text: str, feeds: dict[str, np.ndarray], opset: int = 21) -> list[str]:
    """The kernels of a model whose results are those of the reference."""
    model = parsed(text, opset)
    for found, wanted in zip(run(model, feeds), reference(model, feeds), strict=True):
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)
    return kernels_of(model)


X = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8)


def test_heads_of_attention_are_one_copy() -> None:
    split = "s = Constant<value_ints=[0, 0, 2, 4]>() a = Reshape(x, s) h = Transpose<perm=[0, 2, 1, 3]>(a)"
    assert checked(f"g (float[b, t, 8] x) => (float[b, 2, t, 4] h) {{ {split} }}", {"x": X}) == ["copy"]
    back = "r = Transpose<perm=[0, 2, 1, 3]>(h) e = Constant<value_ints=[0, 0, 8]>() y = Reshape(r, e)"
    assert checked(f"g (float[b, t, 8] x) => (float[b, t, 8] y) {{ {split} {back} }}", {"x": X}) == ["copy"]
    joined = "e = Constant<value_ints=[0, -1]>() y = Reshape(h, e)"
    assert checked(f"g (float[b, t, 8] x) => (float[b, m] y) {{ {split} {joined} }}", {"x": X}) == ["copy"]


def test_slices_splits_and_expansions_are_looks() -> None:
    text = """g (float[b, t, 8] x) => (float[p, q, r] y) {
        one = Constant<value_ints=[1]>() last = Constant<value_ints=[-1]>() axis = Constant<value_ints=[1]>()
        back = Constant<value_ints=[-2]>() low = Constant<value_ints=[-100]>()
        a = Slice(x, one, last, axis, one)
        c = Slice(a, last, low, axis, back)
        l, r = Split<axis = 2, num_outputs = 2>(c)
        y = Concat<axis = 1>(r, l) }"""
    assert checked(text, {"x": X}) == ["concat"]
    wide = """g (float[b, 1, 8] x) => (float[b, 3, 8] y) {
        s = Constant<value_ints=[3, 1]>() y = Expand(x, s) }"""
    assert checked(wide, {"x": X[:, :1]}) == ["copy"]
    place = (
        "g (float[b, 6, 8] x) => (float[b, 8] y) { i = Constant<value_int=-2>() y = Gather<axis = 1>(x, i) }"
    )
    assert checked(place, {"x": X}) == ["copy"]


def test_blocks_are_one_copy() -> None:
    image = np.arange(2 * 8 * 3 * 5, dtype=np.float32).reshape(2, 8, 3, 5)
    text = 'g (float[b, 8, h, w] x) => (float[b, 2, p, q] y) { y = DepthToSpace<blocksize = 2, mode = "CRD">(x) }'
    assert checked(text, {"x": image}) == ["copy"]
    back = "g (float[b, 2, 6, 10] x) => (float[b, 8, 3, 5] y) { y = SpaceToDepth<blocksize = 2>(x) }"
    assert checked(back, {"x": image.reshape(2, 2, 6, 10)}) == ["copy"]
    unproven = "g (float[b, 2, h, w] x) => (float[b, 8, p, q] y) { y = SpaceToDepth<blocksize = 2>(x) }"
    assert checked(unproven, {"x": image.reshape(2, 2, 6, 10)}) == ["space_to_depth"]


def test_sizes_that_are_data() -> None:
    numbers = np.array([-1, 12])
    checked(
        "g (float[b, t, 8] x, int64[2] s) => (float[p, q] y) { y = Reshape(x, s) }", {"x": X, "s": numbers}
    )
    rank_unknown = "g (float[b, t, 8] x, int64[n] s) => (float y) { r = Reshape(x, s) y = Transpose(r) }"
    model = parsed(rank_unknown)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert np.array_equal(run(model, {"x": X, "s": numbers})[0], X.reshape(-1, 12).T)
    bounds = {"x": X, "s": np.array([-5]), "e": np.array([-2]), "a": np.array([-1])}
    text = "g (float[b, t, 8] x, int64[1] s, int64[1] e, int64[1] a) => (float[p, q, r] y) { y = Slice(x, s, e, a) }"
    assert checked(text, bounds) == ["slice"]
    text = "g (float[b, t, 8] x, int64[3] s) => (float[p, q, r] y) { t2 = Tile(x, s) y = Squeeze(t2) }"
    checked(text, {"x": X, "s": np.array([1, 2, 3])})


def test_old_spellings() -> None:
    checked(
        "g (float[b, t, 8] x) => (float[p, q, r] y) { y = Slice<starts=[1], ends=[-1], axes=[1]>(x) }",
        {"x": X},
        9,
    )
    checked("g (float[b, t, 8] x) => (float[p, q, r, s] y) { y = Unsqueeze<axes=[0]>(x) }", {"x": X}, 11)
    checked("g (float[b, 1, 8] x) => (float[p, q] y) { y = Squeeze<axes=[1]>(x) }", {"x": X[:, :1]}, 11)
    text = "g (float[b, t, 8] x) => (float[p, q, r] y, float[p, q, r] z) { y, z = Split<axis=2, split=[3, 5]>(x) }"
    checked(text, {"x": X}, 11)
    text = "g (float[b, t, 8] x) => (float[p, q, r] y) { y = Pad<pads=[0, 1, 0, 0, 0, 2], value=3.0>(x) }"
    model = parsed(text, 10)
    assert np.array_equal(run(model, {"x": X})[0], np.pad(X, [(0, 0), (1, 0), (0, 2)], constant_values=3))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pads(mode: str) -> None:
    text = f"""g (float[b, t, 8] x, int64[4] p, int64[2] a) => (float[k, l, m] y) {{
        y = Pad<mode = "{mode}">(x, p, , a) }}"""
    feeds = {"x": X, "p": np.array([2, 1, 0, 3]), "a": np.array([-1, 1])}
    wanted = np.pad(X, [(0, 0), (1, 3), (2, 0)], mode)  # type: ignore[call-overload]
    assert np.array_equal(run(parsed(text), feeds)[0], wanted)


def test_a_reshape_that_does_not_fit_says_so() -> None:
    text = "g (float[b, t, 8] x) => (float[p, 5] y) { s = Constant<value_ints=[-1, 5]>() y = Reshape(x, s) }"
    with pytest.raises(ExecutionError, match=r"\[2,6,8\] can't be reshaped to \[19,5\]"):
        run(parsed(text), {"x": X})


def test_a_split_that_does_not_fit_says_so() -> None:
    text = """g (float[b, t, 8] x) => (float[p, q, r] y, float[p, q, r] z) {
        s = Constant<value_ints=[3, 4]>() y, z = Split<axis = 1>(x, s) }"""
    with pytest.raises(ExecutionError, match="split"):
        run(parsed(text), {"x": X})


def test_strings_move() -> None:
    words = np.array([["a", "", "long enough to lie elsewhere"], ["b", "ß", "c"]], dtype=object)
    text = """g (string[n, 3] x, int64[k] i) => (string[p, q] y) {
        t = Transpose(x) g2 = Gather(t, i) r = Constant<value_ints=[1, 2]>() l = Tile(g2, r)
        y = Concat<axis = 0>(l, l) }"""
    indices = np.array([2, 0, -1])
    wanted = np.tile(words.T[indices], (1, 2))
    (found,) = run(parsed(text), {"x": words, "i": indices})
    assert np.array_equal(found.astype(object), np.concatenate([wanted, wanted]))


STEPS = ("transpose", "slice", "reshape", "expand", "split")


@given(st.data())
def test_any_chain(data: st.DataObject) -> None:
    """Random chains with symbolic dims: as numpy has it, and at most one copy for each Reshape and the result."""
    dims = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    x = np.arange(np.prod(dims), dtype=np.int32).reshape(dims)
    lines, y, name = list[str](), x, "x"
    for number in range(data.draw(st.integers(1, 6))):
        step, made = data.draw(st.sampled_from(STEPS)), f"v{number}"
        if step == "transpose":
            perm = data.draw(st.permutations(range(y.ndim)))
            lines.append(f"{made} = Transpose<perm={list(perm)}>({name})")
            y = y.transpose(perm)
        elif step == "slice":
            axis = data.draw(st.integers(0, y.ndim - 1))
            bounds = [
                data.draw(st.integers(-3, 6)),
                data.draw(st.integers(-3, 6)),
                data.draw(st.sampled_from([1, 2, -1])),
            ]
            if bounds[2] < 0:
                bounds[0], bounds[1] = max(bounds[0], -y.shape[axis]), -100
            for letter, bound in zip("sea", [*bounds[:2], axis], strict=True):
                lines.append(f"{made}{letter} = Constant<value_ints=[{bound}]>()")
            lines.append(f"{made}p = Constant<value_ints=[{bounds[2]}]>()")
            lines.append(f"{made} = Slice({name}, {made}s, {made}e, {made}a, {made}p)")
            y = y[tuple(slice(*bounds) if d == axis else slice(None) for d in range(y.ndim))]
        elif step == "reshape":
            if 0 in y.shape:
                continue
            joined = data.draw(st.integers(0, y.ndim - 1))
            target = [*y.shape[:joined], -1] if joined else [-1, 1]
            spelled = [0] * joined + target[joined:]
            lines.append(f"{made}s = Constant<value_ints={spelled}>()")
            lines.append(f"{made} = Reshape({name}, {made}s)")
            y = y.reshape(target)
        elif step == "expand":
            lines.append(f"{made}s = Constant<value_ints={[2] + [1] * y.ndim}>()")
            lines.append(f"{made} = Expand({name}, {made}s)")
            y = np.broadcast_to(y, (2, *y.shape))
            if y.ndim == 8:
                break
        else:
            axis = data.draw(st.integers(0, y.ndim - 1))
            if y.shape[axis] % 2:
                continue
            lines.append(f"{made}, {made}z = Split<axis={axis}, num_outputs=2>({name})")
            y = np.split(y, 2, axis)[0]
        name = made
    if name == "x":
        return
    symbols = ", ".join("abcd"[: len(dims)])
    outputs = ", ".join("pqrstuvw"[: y.ndim])
    lines[-1] = lines[-1].replace(f"{name} =", "y =").replace(f"{name},", "y,")
    model = parsed(f"g (int32[{symbols}] x) => (int32[{outputs}] y) {{ {' '.join(lines)} }}")
    (found,) = run(model, {"x": x})
    assert np.array_equal(found, y)
    kernels = kernels_of(model)
    assert len(kernels) <= 1 + sum("Reshape" in line or "Split" in line for line in lines), kernels


def test_constants_are_looked_at() -> None:
    model = parsed("g (int64[n] i) => (float[n, 4] y) { w = Identity(i) y = Gather(t, w) }")
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "t"))
    assert np.array_equal(run(model, {"i": np.array([2, -3])})[0], table[[2, 0]])
    with pytest.raises(ExecutionError, match="index 3 is out of range for axis 0 of 3 elements"):
        run(model, {"i": np.array([3])})
    assert [i.kernel for i in lower(from_proto(model)).main.instructions] == ["gather"]


@pytest.mark.parametrize(
    "name", ["BFLOAT16", "FLOAT8E4M3FN", "INT4", "UINT4", "FLOAT16", "COMPLEX64", "BOOL"]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_kind_of_element(name: str, threads: int) -> None:
    number = getattr(onnx.TensorProto, name)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
    x = (np.arange(60) % 8).reshape(3, 4, 5).astype(dtype)
    model = parsed("""g (float[a, b, c] x) => (float[p, q, r] y) {
        t = Transpose<perm=[2, 0, 1]>(x) s = Constant<value_ints=[0, -1]>() r2 = Reshape(t, s)
        i = Constant<value_ints=[4, 0, 4]>() g2 = Gather(r2, i) y = Concat<axis = 1>(g2, g2) }""")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = number
    (found,) = run(model, {"x": x}, threads)
    rows = x.transpose(2, 0, 1).reshape(5, -1)[[4, 0, 4]]
    wanted = np.concatenate([rows, rows], 1)
    assert found.dtype == dtype and np.array_equal(found.view(np.uint8), wanted.view(np.uint8))
