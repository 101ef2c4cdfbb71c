"""Random shape arithmetic, through all passes of the family: the same answers wherever the model runs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.testing import assert_same_outputs, model_from_text, operators_of, run, run_pass

PASSES = (
    "(simplify-reshape-targets,remove-repeated-reshapes,hoist-dims-above-expand,split-merged-axes,"
    "rebuild-shape-arithmetic,fold-constants,merge-common,simplify-resize-sizes)"
)
SIZES = [
    {"B": 2, "S": 3, "T": 5},
    {"B": 1, "S": 1, "T": 1},
    {"B": 0, "S": 3, "T": 2},
    {"B": 4, "S": 0, "T": 7},
]


class Graph:
    """A graph under construction: vectors and scalars by name, with what would be too large kept out."""

    def __init__(self, draw):
        self.draw = draw
        self.lines = ["sx = Shape(x)", "sy = Shape(y)"]
        self.vectors = {"sx": 3, "sy": 2}
        self.count = 0

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def pick(self):
        return self.draw(st.sampled_from(sorted(self.vectors)))

    def add(self, line, length):
        name = self.name()
        self.lines.append(f"{name} = {line}")
        self.vectors[name] = length
        return name

    def step(self):
        kind = self.draw(
            st.sampled_from(
                ["gather", "slice", "concat", "arithmetic", "arithmetic", "casts", "where", "two"]
            )
        )
        given = self.pick()
        length = self.vectors[given]
        if kind == "gather":
            places = self.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=3))
            self.add(f"Gather({given}, {places})", len(places))
        elif kind == "slice":
            start = self.draw(st.integers(0, length - 1))
            end = self.draw(st.integers(start + 1, length))
            self.add(f"Slice({given}, [{start}], [{end}])", end - start)
        elif kind == "concat" and length <= 3:
            other = self.pick()
            if self.vectors[other] <= 3:
                self.add(f"Concat <axis = 0> ({given}, {other})", length + self.vectors[other])
        elif kind == "arithmetic":
            op = self.draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min"]))
            number = self.draw(st.integers(1, 4))
            self.add(f"{op}({given}, [{number}])", length)
        elif kind == "casts":
            middle = self.add(f"Cast <to = {self.draw(st.sampled_from([1, 6]))}> ({given})", length)
            self.add(f"Cast <to = 7> ({middle})", length)
            del self.vectors[middle]
        elif kind == "where":
            number = self.draw(st.integers(-1, 2))
            name = self.name()
            self.lines.append(f"{name} = Equal({given}, [{number}])")
            self.add(f"Where({name}, [1], {given})", length)
        elif kind == "two":
            other = self.draw(st.sampled_from(sorted(n for n, k in self.vectors.items() if k in (1, length))))
            op = self.draw(st.sampled_from(["Add", "Sub", "Mul"]))
            self.add(f"{op}({given}, {other})", max(length, self.vectors[other]))


@st.composite
def graphs(draw):
    graph = Graph(draw)
    for _ in range(draw(st.integers(2, 8))):
        graph.step()
    outputs = []
    for _ in range(draw(st.integers(1, 4))):
        vector = graph.pick()
        length = graph.vectors[vector]
        name = f"o{len(outputs)}"
        kind = draw(st.sampled_from(["expand", "fill", "reshape", "range", "values"]))
        rank = length
        if kind in ("expand", "fill"):
            # Sizes between 0 and 5, so that nothing gets large.
            graph.lines += [f"{name}a = Abs({vector})", f"{name}b = Mod({name}a, [6])"]
            graph.lines.append(
                f"{name} = Expand(w, {name}b)" if kind == "expand" else f"{name} = ConstantOfShape({name}b)"
            )
        elif kind == "reshape":
            place = draw(st.integers(0, 2))
            rank = 2
            graph.lines += [
                f"{name}a = Slice({vector}, [0], [1])",
                f"{name}b = Gather(sx, [{place}])",
                f"{name}c = Concat <axis = 0> ({name}b, [-1])",
                f"{name}d = Add({name}a, {name}a)",
                f"{name}e = Reshape(x, {name}c)",
                f"{name}f = Cast <to = 1> ({name}d)",
                f"{name} = Add({name}e, {name}f)",
            ]
        elif kind == "range":
            rank = 1
            graph.lines += [
                f"{name}a = Gather({vector}, {draw(st.integers(0, length - 1))})",
                f"{name}b = Mod({name}a, 9)",
                f"{name} = Range(0, {name}b, 1)",
            ]
        else:
            rank = 1
            graph.lines.append(f"{name} = Add({vector}, w1)")
        dtype = "int64" if kind in ("range", "values") else "float"
        outputs.append(f"{dtype}[{','.join(f'{name}d{i}' for i in range(rank))}] {name}")
    body = "\n    ".join(graph.lines)
    return f"g (float[B,S,4] x, float[B,T] y, float[1] w, int64[1] w1) => ({', '.join(outputs)}) {{\n    {body}\n}}"


def feeds(sizes):
    count = sizes["B"] * sizes["S"] * 4
    return {
        "x": np.arange(count, dtype=np.float32).reshape(sizes["B"], sizes["S"], 4),
        "y": np.zeros((sizes["B"], sizes["T"]), np.float32),
        "w": np.array([2.5], np.float32),
        "w1": np.array([3], np.int64),
    }


@pytest.mark.parametrize("opset", [13, 18])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=graphs())
def test_the_same_answers_in_no_more_nodes(opset, text):
    model = model_from_text(text, opset=opset)
    original = model.clone()
    before = len(operators_of(model))
    run_pass(PASSES, model)
    assert len(operators_of(model)) <= before
    for sizes in SIZES:
        try:
            run(original, feeds(sizes))
        except Exception:  # the model itself does not run at these sizes
            continue
        assert_same_outputs(original, model, feeds(sizes))
