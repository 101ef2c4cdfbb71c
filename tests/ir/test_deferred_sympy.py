import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_sympy_is_not_imported_until_dims_of_onnx_ir_are_added():
    code = """
import sys, graphopt.ir
import onnx_ir as ir
assert "sympy" not in sys.modules
n = ir.SymbolicDim("n")
print(n + 1, (n * 2 - n).simplify(), isinstance(n, ir.SymbolicDim), "sympy" in sys.modules)
print(ir.SymbolicDim("max(n, 3)").evaluate({"n": 7}))
import sympy
print(sympy.Symbol("x") + 1)
"""
    assert run(code).splitlines() == ["n + 1 n True True", "7", "x + 1"]


def test_a_sympy_or_onnx_ir_that_is_there_already_is_left_alone():
    assert (
        run("import sympy as s, graphopt.ir, sys; print(sys.modules['sympy'] is s, s.Symbol('x') + 1)")
        == "True x + 1"
    )
    assert run("import onnx_ir, graphopt.ir, sys; print('sympy' in sys.modules)") == "True"


def test_optimizing_needs_no_sympy(tmp_path):
    code = f"""
import sys, onnx
from onnx import helper
x = helper.make_tensor_value_info("x", 1, ["n"]); y = helper.make_tensor_value_info("y", 1, ["n"])
node = helper.make_node("Relu", ["x"], ["y"])
model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
onnx.save(model, r"{tmp_path}/m.onnx")
import graphopt
graphopt.optimize(r"{tmp_path}/m.onnx")
print("sympy" in sys.modules)
"""
    assert run(code) == "False"
