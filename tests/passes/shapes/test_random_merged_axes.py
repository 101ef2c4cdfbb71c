"""Random operators on tensors whose leading axes were merged: the same answers, in no more nodes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.testing import assert_same_outputs, model_from_text, operators_of, run, run_pass

SIZES = [{"B": 2}, {"B": 1}, {"B": 0}]

# Trailing dims of tensors with the merged axis, by name.
START = {"m0": (5, 4), "m1": (5, 4), "m2": (4, 5)}


@st.composite
def graphs(draw):
    lines = ["m0 = Reshape(q, [-1,5,4])", "m1 = Reshape(k, [-1,5,4])", "m2 = Reshape(t, [-1,4,5])"]
    shapes = dict(START)
    for place in range(draw(st.integers(1, 7))):
        name = f"a{place}"
        given_name = draw(st.sampled_from(sorted(shapes)))
        trailing = shapes[given_name]
        kind = draw(
            st.sampled_from(
                ["unary", "binary", "scalar", "row", "matmul", "weight", "softmax", "transpose", "reduce",
                 "slice", "concat", "back", "column", "relabel"]
            )
        )  # fmt: skip
        if kind == "unary":
            lines.append(f"{name} = {draw(st.sampled_from(['Relu', 'Neg', 'Abs']))}({given_name})")
        elif kind in ("binary", "matmul", "concat"):
            wanted = trailing if kind != "matmul" else None
            fitting = [
                n
                for n, s in sorted(shapes.items())
                if (s == wanted if wanted else len(s) == len(trailing) == 2 and s[0] == trailing[1])
            ]
            if not fitting:
                continue
            other = draw(st.sampled_from(fitting))
            if kind == "matmul":
                lines.append(f"{name} = MatMul({given_name}, {other})")
                trailing = (trailing[0], shapes[other][1])
            elif kind == "concat":
                axis = draw(st.integers(1, len(trailing)))
                lines.append(f"{name} = Concat <axis = {axis}> ({given_name}, {other})")
                trailing = tuple(2 * d if i == axis - 1 else d for i, d in enumerate(trailing))
            else:
                lines.append(
                    f"{name} = {draw(st.sampled_from(['Add', 'Mul', 'Sub']))}({given_name}, {other})"
                )
        elif kind == "scalar":
            lines.append(f"{name} = Mul({given_name}, 0.5)")
        elif kind == "row":
            values = ",".join(str(0.5 * i) for i in range(trailing[-1]))
            lines.append(f"{name} = Add({given_name}, [{values}])")
        elif kind == "column":
            lines.append(f"{name}c = Reshape(c, [-1,{','.join('1' * len(trailing))}])")
            lines.append(f"{name} = Mul({given_name}, {name}c)")
        elif kind == "weight":
            if trailing[-1] != 4:
                continue
            lines.append(f"{name} = MatMul({given_name}, w)")
            trailing = (*trailing[:-1], 3)
        elif kind == "softmax":
            axis = draw(st.integers(1, len(trailing)))
            lines.append(f"{name} = Softmax <axis = {axis}> ({given_name})")
        elif kind == "transpose":
            if len(trailing) != 2:
                continue
            perm = draw(st.sampled_from([(0, 2, 1), (0, 1, 2)]))
            lines.append(f"{name} = Transpose <perm = {list(perm)}> ({given_name})")
            trailing = tuple(trailing[axis - 1] for axis in perm[1:])
        elif kind == "reduce":
            axis = draw(st.integers(1, len(trailing)))
            keeps = draw(st.integers(0, 1)) if len(trailing) > 1 else 1
            lines.append(f"{name} = ReduceSum <keepdims = {keeps}> ({given_name}, [{axis}])")
            trailing = tuple(
                1 if i == axis - 1 else d for i, d in enumerate(trailing) if keeps or i != axis - 1
            )
        elif kind == "slice":
            if trailing[-1] < 3:
                continue
            lines.append(f"{name} = Slice({given_name}, [1], [3], [-1])")
            trailing = (*trailing[:-1], 2)
        elif kind == "relabel":
            lines.append(f"{name} = Reshape({given_name}, [-1,{int(np.prod(trailing))}])")
            trailing = (int(np.prod(trailing)),)
        else:
            parted = ",".join(map(str, trailing))
            lines.append(f"{name}p = Reshape({given_name}, [-1,3,{parted}])")
            lines.append(f"{name}q = Neg({name}p)")
            lines.append(f"{name} = Reshape({name}q, [-1,{parted}])")
        if any(line.startswith(f"{name} =") for line in lines):
            shapes[name] = trailing
    outputs = []
    for place in range(draw(st.integers(1, 3))):
        given_name = draw(st.sampled_from(sorted(shapes)))
        trailing = shapes[given_name]
        is_parted = draw(st.booleans())
        dims = ["B", "3", *map(str, trailing)] if is_parted else [f"P{place}", *map(str, trailing)]
        target = f"[{'-1,3' if is_parted else '-1'},{','.join(map(str, trailing))}]"
        outputs.append(f"float[{','.join(dims)}] o{place}")
        # An Identity for what is merged, so that the Reshape of an input is no output itself.
        lines.append(
            f"o{place} = {'Reshape' if is_parted else 'Identity'}({given_name}{', ' + target if is_parted else ''})"
        )
    body = "\n    ".join(lines)
    return (
        "g (float[B,3,5,4] q, float[B,3,5,4] k, float[B,3,4,5] t, float[4,3] w, float[B,3] c)"
        f" => ({', '.join(outputs)}) {{\n    {body}\n}}"
    )


def feeds(size):
    rng = np.random.default_rng(0)
    shapes = {"q": (size, 3, 5, 4), "k": (size, 3, 5, 4), "t": (size, 3, 4, 5), "w": (4, 3), "c": (size, 3)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("opset", [12, 18])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=graphs())
def test_the_same_answers_in_no_more_nodes(opset, text):
    model = model_from_text(text if opset >= 13 else _before_13(text), opset=opset)
    run_pass("remove-dead-code", model)
    original = model.clone()
    before = len(operators_of(model))
    run_pass("(split-merged-axes,split-merged-rows,remove-repeated-reshapes,fold-constants)", model)
    assert len(operators_of(model)) <= before
    for sizes in SIZES:
        try:
            run(original, feeds(sizes["B"]))
        except Exception:  # the model itself does not run at this size
            continue
        assert_same_outputs(original, model, feeds(sizes["B"]), exact=False)


def _before_13(text):
    """Axes of ReduceSum as an attribute."""
    import re

    return re.sub(
        r"ReduceSum <keepdims = (\d)> \((\w+), \[(\d)\]\)",
        r"ReduceSum <keepdims = \1, axes = [\3]> (\2)",
        text,
    )
