"""The quant table: which tensors are quantized, how, and what each operator does with them.

It lies between the decision and the graph: a JSON file that a person can read and edit, and that is applied
again without data. Names are those that values and nodes have once the pipeline that the table names has run
on the model whose hash it has; those of bodies are written `loop_node:body/value`. Arrays of more than
`LONGEST` numbers, and all codes, go to an .npz file beside it.
"""

from graphopt.ir.quant_table.checking import schema
from graphopt.ir.quant_table.fitting import check_fit
from graphopt.ir.quant_table.plans import (
    CalibrationNote,
    Mode,
    ModelIdentity,
    Observed,
    OperatorPlan,
    QuantTable,
    Role,
    Scaling,
    TensorPlan,
)
from graphopt.ir.quant_table.reading import read
from graphopt.ir.quant_table.writing import LONGEST, as_json, staged, write

__all__ = [
    "LONGEST",
    "CalibrationNote",
    "Mode",
    "ModelIdentity",
    "Observed",
    "OperatorPlan",
    "QuantTable",
    "Role",
    "Scaling",
    "TensorPlan",
    "as_json",
    "check_fit",
    "read",
    "schema",
    "staged",
    "write",
]
