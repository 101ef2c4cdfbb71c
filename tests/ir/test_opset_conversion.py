"""Raising opsets: the table covers the standard, each step is exact in onnxruntime, the rest is refused."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, defs, helper, numpy_helper

from benchmarks.recipes import Recipe
from graphopt.errors import ModelError
from graphopt.ir.evaluate.plain import plain_session
from graphopt.ir.load import from_proto, load
from graphopt.ir.opset_conversion import can_convert, convert
from graphopt.ir.opset_steps import STEPS
from graphopt.ir.opset_table import BLOCKED, IDENTICAL, NEWEST
from graphopt.ir.save import save
from graphopt.ir.verifier import verify

Steps = set[tuple[str, int]]


def changes() -> Steps:
    """Every (operator, version) of the standard domain that changed after 7, up to the end of the table."""
    versions: dict[str, set[int]] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, set()).add(schema.since_version)
    return {
        (name, version)
        for name, all_versions in versions.items()
        for version in all_versions
        if 7 < version <= NEWEST and version != min(all_versions)
    }


def test_every_change_of_the_standard_has_a_line() -> None:
    identical = {(name, version) for name, versions in IDENTICAL.items() for version in versions}
    groups = [identical, set(STEPS), set(BLOCKED)]
    for index, group in enumerate(groups):
        for other in groups[index + 1 :]:
            assert not group & other
    assert set().union(*groups) == changes()


def test_identical_changes_add_and_never_take_away() -> None:
    """What the table calls the same takes all types, attributes and inputs of the version before."""
    for name, versions in IDENTICAL.items():
        for version in versions:
            old = defs.get_schema(name, version - 1, "")
            new = defs.get_schema(name, version, "")
            assert new.since_version == version and not new.deprecated
            for before, after in ((old.inputs, new.inputs), (old.outputs, new.outputs)):
                assert len(before) <= len(after), (name, version)
                for a, b in zip(before, after, strict=False):
                    assert a.types <= b.types, (name, version, a.name)
            assert new.min_input <= old.min_input, (name, version)
            for attribute, given in old.attributes.items():
                now = new.attributes[attribute]
                assert (given.type, given.default_value) == (now.type, now.default_value), (name, version)
            for attribute in new.attributes.keys() - old.attributes.keys():
                assert not new.attributes[attribute].required, (name, version, attribute)


@dataclass(frozen=True)
class Case:
    """One node, from an opset to another."""

    op: str
    old: int
    new: int
    inputs: tuple[np.ndarray | None, ...]
    attributes: dict[str, object] = field(default_factory=dict)
    constants: tuple[int, ...] = ()
    outputs: int = 1

    def __str__(self) -> str:
        return f"{self.op}-{self.old}-{self.new}-{'-'.join(map(str, self.attributes))}"

    def proto(self) -> onnx.ModelProto:
        names = [f"x{i}" if array is not None else "" for i, array in enumerate(self.inputs)]
        given = [i for i, array in enumerate(self.inputs) if array is not None and i not in self.constants]
        node = helper.make_node(
            self.op, names, [f"y{i}" for i in range(self.outputs)], name="n", **self.attributes
        )
        graph = helper.make_graph(
            [node],
            "g",
            [
                helper.make_tensor_value_info(
                    names[i], helper.np_dtype_to_tensor_dtype(self.inputs[i].dtype), self.inputs[i].shape
                )
                for i in given
            ],
            [onnx.ValueInfoProto(name=f"y{i}") for i in range(self.outputs)],
            [numpy_helper.from_array(self.inputs[i], names[i]) for i in self.constants],
        )
        model = helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", self.old)])
        inferred = onnx.shape_inference.infer_shapes(model)
        for output, known in zip(model.graph.output, inferred.graph.output, strict=True):
            kind = known.type.tensor_type.elem_type or model.graph.input[0].type.tensor_type.elem_type
            output.type.tensor_type.elem_type = kind
        return model

    def feeds(self) -> dict[str, np.ndarray]:
        return {
            f"x{i}": array
            for i, array in enumerate(self.inputs)
            if array is not None and i not in self.constants
        }


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


X, IMAGE = floats(2, 3, 4), floats(1, 2, 4, 5)
GRID = np.clip(floats(1, 3, 3, 2), -1, 1)
ONES = np.ones(2, np.float32)
CASES = [
    *(Case("Squeeze", 11, 13, (floats(1, 3, 1),), a) for a in ({}, {"axes": [0]}, {"axes": [-1, 0]})),
    Case("Unsqueeze", 11, 13, (X,), {"axes": [0, -1]}),
    Case("Unsqueeze", 8, 23, (X,), {"axes": [0, 3]}),
    *(
        Case("ReduceSum", 11, 13, (X,), a)
        for a in ({}, {"axes": [1]}, {"axes": [-1, 0], "keepdims": 0}, {"keepdims": 0})
    ),
    *(
        Case(op, 7, 23, (np.abs(X),), a)
        for op in ("ReduceMean", "ReduceMax", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")
        for a in ({}, {"axes": [1], "keepdims": 0})
    ),
    *(Case(op, 13, 18, (X,), {"axes": [-2]}) for op in ("ReduceMin", "ReduceProd", "ReduceSumSquare")),
    Case("Split", 11, 18, (floats(4, 3),), {"axis": 0, "split": [1, 3]}, outputs=2),
    Case("Split", 11, 18, (floats(4, 3),), {"axis": 0}, outputs=2),
    Case("Split", 13, 23, (floats(4, 3), np.array([3, 1])), {"axis": 0}, (1,), outputs=2),
    *(Case(op, 11, 13, (X,), {"axis": 2}) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *(Case(op, 9, 23, (X,), {"axis": 2}) for op in ("Softmax", "LogSoftmax")),
    Case("Softmax", 11, 13, (X,), {"axis": -1}),
    Case("Softmax", 11, 13, (floats(5, 6),)),
    *(Case("Clip", 7, 13, (X,), a) for a in ({"min": -0.5}, {"max": 0.5}, {"min": -0.1, "max": 0.3}, {})),
    Case("Clip", 10, 11, (np.array([np.inf, -np.inf, 1], np.float32),), {"min": 0.0}),
    Case("Pad", 10, 18, (IMAGE,), {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 1.5}),
    Case("Pad", 7, 23, (IMAGE,), {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "reflect"}),
    Case("Slice", 9, 13, (X,), {"starts": [0, -2], "ends": [1, 1000], "axes": [0, 2]}),
    Case("Slice", 7, 10, (X,), {"starts": [0, 1], "ends": [1, 3]}),
    Case("TopK", 9, 11, (X,), {"k": 2, "axis": 2}, outputs=2),
    Case("LayerNormalization", 13, 23, (X, floats(3, 4), floats(3, 4)), {"axis": 1}),
    Case("Dropout", 9, 13, (X,), {"ratio": 0.25}),
    Case("Dropout", 7, 22, (X,)),
    Case("Upsample", 8, 13, (IMAGE,), {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    Case("Upsample", 7, 23, (IMAGE,), {"scales": [1.0, 1.0, 1.5, 2.0], "mode": "linear"}),
    Case("Upsample", 9, 10, (IMAGE, np.array([1, 1, 2, 2], np.float32)), {}, (1,)),
    Case("Upsample", 9, 18, (IMAGE, np.array([1, 1, 2.5, 2], np.float32)), {}, (1,)),
    Case("Resize", 10, 19, (IMAGE, np.array([1, 1, 2, 3], np.float32)), {"mode": "nearest"}, (1,)),
    Case("Resize", 10, 13, (IMAGE, np.array([1, 1, 0.5, 0.6], np.float32)), {"mode": "linear"}, (1,)),
    *(
        Case(
            "Resize",
            11,
            19,
            (IMAGE, np.zeros(0, np.float32), np.array([1, 1, 1.7, 2.3], np.float32)),
            {"mode": mode, "coordinate_transformation_mode": how},
            (1, 2),
        )
        for mode in ("nearest", "linear", "cubic")
        for how in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    Case(
        "Resize",
        11,
        18,
        (IMAGE, np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([1, 2, 7, 3])),
        {"mode": "linear"},
        (1, 2, 3),
    ),
    Case("BatchNormalization", 7, 15, (IMAGE, ONES, ONES, ONES, ONES), {"epsilon": 1e-3}),
    Case("BatchNormalization", 8, 9, (IMAGE, ONES, ONES, ONES, ONES), {"spatial": 1}),
    Case("GridSample", 16, 20, (IMAGE, GRID), {"mode": "bilinear"}),
    Case("GridSample", 16, 22, (IMAGE, GRID), {"mode": "bicubic", "padding_mode": "border"}),
    Case("GridSample", 16, 20, (IMAGE, GRID)),
    Case("DFT", 17, 20, (floats(1, 8, 4, 1),), {"axis": 1}),
    Case("DFT", 17, 20, (floats(1, 8, 1),)),
    Case(
        "RoiAlign",
        10,
        16,
        (IMAGE, np.array([[0, 0, 3, 3]], np.float32), np.array([0])),
        {"output_height": 2, "output_width": 2},
    ),
    Case("Scatter", 9, 11, (X, np.zeros((1, 1, 2), np.int64), floats(1, 1, 2)), {"axis": 1}),
    Case("Scatter", 10, 18, (X, np.zeros((1, 1, 2), np.int64), floats(1, 1, 2)), {"axis": 1}),
    Case("Erf", 9, 13, (X,)),
    Case("AveragePool", 7, 18, (IMAGE,), {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
    Case("AveragePool", 19, 22, (IMAGE,), {"kernel_shape": [2, 2], "dilations": [1, 2]}),
    Case("MaxPool", 8, 22, (IMAGE,), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("ConvTranspose", 7, 22, (IMAGE, floats(2, 3, 2, 2)), {"strides": [2, 2]}),
    Case("Gemm", 7, 13, (floats(2, 3), floats(3, 4), floats(4))),
    Case("Add", 7, 14, (X, X)),
    Case("Cast", 9, 23, (X,), {"to": TensorProto.INT32}),
    Case("Reshape", 9, 23, (X, np.array([0, -1]))),
    Case("Equal", 7, 19, (np.array([1, 2]), np.array([1, 3]))),
    Case("ScatterND", 11, 18, (X, np.array([[0], [1]]), X[::-1].copy())),
    Case("DepthToSpace", 7, 13, (floats(1, 4, 2, 2),), {"blocksize": 2}),
    Case("LSTM", 7, 22, (floats(3, 2, 4), floats(1, 20, 4), floats(1, 20, 5)), {"hidden_size": 5}),
    Case("GRU", 7, 22, (floats(3, 2, 4), floats(1, 15, 4), floats(1, 15, 5)), {"hidden_size": 5}),
    Case("QuantizeLinear", 10, 23, (X, np.array(0.02, np.float32), np.array(3, np.uint8))),
    Case("DequantizeLinear", 10, 23, (np.arange(9, dtype=np.uint8), np.array(0.02, np.float32))),
    Case("ConstantOfShape", 9, 23, (np.array([2, 3]),)),
    Case("Where", 9, 16, (X > 0, X, -X)),
    Case("ArgMax", 7, 13, (X,), {"axis": 1}),
    Case("CumSum", 11, 14, (X, np.array(1, np.int32))),
    Case("Mod", 10, 13, (np.array([5, -5]), np.array([3, 3]))),
    Case("Gather", 7, 13, (X, np.array([1, 0])), {"axis": 1}),
    Case("InstanceNormalization", 7, 22, (IMAGE, ONES, ONES)),
    Case("LRN", 7, 13, (IMAGE,), {"size": 3}),
    Case("PRelu", 7, 16, (X, floats(4))),
    Case("HardSigmoid", 7, 22, (X,)),
    Case("MeanVarianceNormalization", 9, 13, (IMAGE,)),
]


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    outputs: list[np.ndarray] = plain_session(model).run(None, feeds)
    return outputs


def assert_equal_bits(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for left, right in zip(a, b, strict=True):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_converted_node_answers_the_same(case: Case) -> None:
    proto = case.proto()
    expected = run(proto, case.feeds())
    for output, array in zip(proto.graph.output, expected, strict=True):
        for size in array.shape:
            output.type.tensor_type.shape.dim.add(dim_value=size)
        output.type.tensor_type.shape.SetInParent()
    model = from_proto(proto)
    assert can_convert(model, case.new) == []
    convert(model, case.new)
    assert model.graph.opset_imports[""] == case.new
    verify(model)
    converted = ir.to_proto(model)
    # The full check fails on any MeanVarianceNormalization-13, for the standard's own function of it.
    onnx.checker.check_model(converted, full_check=case.op != "MeanVarianceNormalization")
    assert_equal_bits(run(converted, case.feeds()), expected)


def test_every_step_is_tried() -> None:
    tried = {(case.op, version) for case in CASES for version in range(case.old + 1, case.new + 1)}
    renamed = {("Resize", 11), ("Resize", 13)}
    untried = {("GroupNormalization", 21)}  # onnxruntime has no version 18 of it; see below
    assert set(STEPS) <= tried | renamed | untried


REFUSED = [
    (Case("Softmax", 11, 13, (X,), {"axis": 1}), 13, "normalizes over axes 1 to 2 together"),
    (Case("Softmax", 11, 13, (X,)), 13, "normalizes over axes 1 to 2 together"),
    (Case("AveragePool", 11, 19, (IMAGE,), {"kernel_shape": [2, 2]}), 19, "adds up in another order"),
    (Case("AveragePool", 19, 22, (IMAGE,), {"kernel_shape": [2, 2], "ceil_mode": 1}), 22, "ceil_mode=1"),
    (Case("MaxPool", 12, 22, (IMAGE,), {"kernel_shape": [2, 2], "ceil_mode": 1}), 22, "ceil_mode=1"),
    (Case("Resize", 10, 11, (IMAGE, np.array([1, 1, 2, 2], np.float32))), 11, "'scales', not known to be"),
    (
        Case("Resize", 10, 11, (IMAGE, np.array([1, 1, 0.5, 2], np.float32)), {}, (1,)),
        11,
        "'scales', not known to be 1 or more",
    ),
    (
        Case(
            "Resize",
            11,
            13,
            (IMAGE, np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)),
            {"coordinate_transformation_mode": "tf_half_pixel_for_nn"},
            (1, 2),
        ),
        13,
        "tf_half_pixel_for_nn was dropped",
    ),
    (Case("Dropout", 9, 10, (X,), outputs=2), 10, "the mask"),
    (Case("Dropout", 10, 12, (X,), outputs=2), 12, "the mask"),
    (Case("BatchNormalization", 8, 9, (IMAGE, *[floats(2, 4, 5)] * 4), {"spatial": 0}), 9, "spatial=0"),
    (Case("OneHot", 9, 11, (np.array([1]), np.array(3), np.array([0, 1]))), 11, "negative indices"),
    (Case("ConvTranspose", 7, 11, (IMAGE, floats(2, 3, 2, 2)), {"auto_pad": "SAME_UPPER"}), 11, "other side"),
    (Case("Erf", 9, 13, (np.array([1]),)), 13, "integers are no longer taken"),
]


@pytest.mark.parametrize(("case", "version", "reason"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_not_exact_blocks(case: Case, version: int, reason: str) -> None:
    model = from_proto(case.proto())
    before = ir.to_proto(model).SerializeToString()
    (blocker,) = can_convert(model, case.new)
    assert (blocker.node, blocker.op_type, blocker.version) == ("n", case.op, version)
    assert reason in blocker.reason
    with pytest.raises(ModelError, match=rf"node 'n' \({case.op}\): opset {version}: "):
        convert(model, case.new)
    assert ir.to_proto(model).SerializeToString() == before
    assert can_convert(model, version - 1) == []


def text(source: str, opset: int) -> ir.Model:
    return from_proto(onnx.parser.parse_model(f'<ir_version: 7, opset_import: ["": {opset}]>\n{source}'))


def test_softmax_of_unknown_rank_blocks_unless_the_axis_counts_from_the_end() -> None:
    source = "g (float x) => (float y) { y = Softmax <axis = %d> (x) }"
    for axis, count in ((1, 1), (-1, 0), (0, 1)):
        model = text(source % axis, 11)
        model.graph.inputs[0].shape = None
        assert len(can_convert(model, 13)) == count


def test_group_normalization_scales_each_channel() -> None:
    model = text(
        """g (float[1,4,2,2] x) => (float[1,4,2,2] y) <float[2] s = {2, 3}, float[2] b = {0, 1}>
        { y = GroupNormalization <num_groups = 2, epsilon = 0.01> (x, s, b) }""",
        18,
    )
    convert(model, 21)
    _, scale, bias = model.graph[0].inputs
    assert scale.const_value.numpy().tolist() == [2, 2, 3, 3]
    assert bias.const_value.numpy().tolist() == [0, 0, 1, 1]
    data = floats(1, 4, 2, 2)
    groups = data.reshape(1, 2, -1).astype(np.float64)
    normal = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 0.01)
    expected = normal * np.array([2, 3]).reshape(1, 2, 1) + np.array([0, 1]).reshape(1, 2, 1)
    found = run(ir.to_proto(model), {"x": data})[0]
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-5, atol=1e-6)


def test_bodies_and_captured_values_convert_too() -> None:
    model = text(
        """g (bool c, float[1, 3] x) => (float[3] y) { y = If(c)
        <then_branch = t () => (float[3] p) { p = Squeeze <axes = [0]> (x) },
         else_branch = e () => (float[3] q) { h = Squeeze <axes = [0]> (x) q = Neg(h) }> }""",
        11,
    )
    before = ir.to_proto(model)
    convert(model, 13)
    verify(model)
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": floats(1, 3)}
        assert_equal_bits(run(ir.to_proto(model), feeds), run(before, feeds))


FUNCTION = """<ir_version: 8, opset_import: ["": 15, "local": 1]>
g (float[2, 3] x) => (float[2, 1] y) { y = local.Mean(x) }
<domain: "local", opset_import: ["": 15]> Mean (v) => (r) { r = ReduceMean <axes = [1]> (v) }"""


def test_functions_convert_with_their_own_opsets() -> None:
    proto = onnx.parser.parse_model(FUNCTION)
    model = from_proto(proto)
    convert(model, 18)
    verify(model)
    (function,) = model.functions.values()
    assert function.opset_imports[""] == model.graph.opset_imports[""] == 18
    assert [node.op_type for node in function] == ["Constant", "ReduceMean"]
    onnx.checker.check_model(ir.to_proto(model))
    feeds = {"x": floats(2, 3)}
    assert_equal_bits(run(ir.to_proto(model), feeds), run(onnx.parser.parse_model(FUNCTION), feeds))


def test_attribute_of_a_function_blocks() -> None:
    source = FUNCTION.replace("Mean (v)", "Mean <axes> (v)").replace("axes = [1]", "axes: ints = @axes")
    (blocker,) = can_convert(from_proto(onnx.parser.parse_model(source)), 18)
    assert blocker.reason == "attribute 'axes' refers to an attribute of the function"


def test_equal_constants_are_shared_and_names_do_not_clash() -> None:
    model = text(
        """g (float[2,1,3] x) => (float[2,3] y) {
        [n] n_constant = Squeeze <axes = [1]> (x) [m] z = Squeeze <axes = [1]> (x)
        y = Add(n_constant, z) }""",
        11,
    )
    convert(model, 13)
    verify(model)
    assert list(model.graph.initializers) == ["n_constant_1"]


def test_versions_beyond_the_table_need_operators_that_did_not_change() -> None:
    assert can_convert(text("g (float[2] x) => (float[2] y) { y = Relu(x) }", 14), 24) == []
    (blocker,) = can_convert(text("g (float[2] x) => (float[2] y) { y = Cast <to = 1> (x) }", 14), 24)
    assert (blocker.version, blocker.reason) == (24, "its change is not in the table")


def test_only_up_and_only_the_standard_domain() -> None:
    model = text("g (float[2] x) => (float[2] y) { y = Relu(x) }", 17)
    with pytest.raises(ModelError, match="opsets are only raised"):
        convert(model, 13)
    convert(model, 17)
    assert model.graph.opset_imports == {"": 17}


def test_ir_version_follows() -> None:
    model = text("g (float[2] x) => (float[2] y) { y = Relu(x) }", 13)
    convert(model, 21)
    assert model.ir_version == 10


@pytest.mark.parametrize("name", ["ppocr_cls_v2", "kv_loop_ts13", "segformer_ts12", "functions_script18"])
def test_real_models_answer_the_same(zoo: Path, name: str, tmp_path: Path) -> None:
    recipe = Recipe.read(zoo / f"{name}.json")
    model = load(zoo / f"{name}.onnx")
    assert can_convert(model, 23) == []
    convert(model, 23)
    verify(model)
    save(model, tmp_path / "m.onnx")
    feeds = recipe.feeds(recipe.sizes[0])
    assert_equal_bits(run(onnx.load(tmp_path / "m.onnx"), feeds), run(onnx.load(zoo / f"{name}.onnx"), feeds))
