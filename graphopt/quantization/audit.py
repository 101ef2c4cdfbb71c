"""Which quantized operators really compute with integers: asked of the runtime that runs them.

A model says what is quantized; what computes with codes is up to the runtime, which fuses Q and DQ into
integer kernels where it has them and computes floats between them where it has not. onnxruntime's profile
names the kernel and the element types of every operator that ran; our own engine's instructions name nodes.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import onnx_ir as ir

from graphopt import __version__
from graphopt.errors import ModelError, UsageError
from graphopt.ir import constants
from graphopt.ir.own_operators import CONVOLUTIONS, PRODUCTS
from graphopt.ir.quantization import is_dequantize, is_quantize
from graphopt.ir.save import save
from graphopt.ir.scoped_names import scopes
from graphopt.reporting.audit import Audit, AuditedOperator, Conversions, Verdict
from graphopt.verification.compare import Answer

__all__ = ["already_quantized", "audit", "audit_file", "quantized_operators"]

Feeds = Mapping[str, Answer]

# Operators on integers, of the standard and of onnxruntime.
_INTEGER = frozenset(
    {"ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
    | {"QAttention", "QEmbedLayerNormalization", "QGemm", "QMoE"}
)
_STORED = frozenset({"MatMulNBits", "GatherBlockQuantized", "gemm.s8", "gemm.u4"})
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "if", "loop", "scan"})
_BYTES = frozenset({"uint8", "int8", "uint4", "int4"})
# Kernels of our engine.
_INTEGER_KERNELS = ("gemm.u8s8", "matmul.integer", "conv.bytes", "conv.integer", "conv.quantized")
_CONVERTING = ("elementwise",)
# Runs that are measured; time to look for inputs.
RUNS = 5
SECONDS = 5.0
# Kinds of operators that a line names.
MOST_KINDS = 4


@dataclass(frozen=True)
class _Ran:
    """What ran under a name.

    Attributes:
        kernel: Its name.
        verdict: How it computes.
        nanoseconds: Over all runs.
        of_weights: Whether it reads constants alone.
    """

    kernel: str
    verdict: Verdict
    nanoseconds: float
    of_weights: bool = False


def quantized_operators(model: ir.Model) -> list[tuple[str, ir.Node]]:
    """The operators of all scopes that take or hold integers instead of floats, by their scoped names."""
    return [
        (f"{scope}{node.name}", node)
        for scope, graph in scopes(model.graph)
        for node in graph
        if _is_quantized(node)
    ]


def already_quantized(model: ir.Model) -> list[str]:
    """What to tell of a model that is to be quantized and is so already, in part or whole; one line each."""
    found = quantized_operators(model)
    if not found:
        return []
    kinds = Counter(node.op_type for _, node in found)
    named = [f"{count} {kind}" for kind, count in kinds.most_common(MOST_KINDS)]
    named += ["..."] if len(kinds) > MOST_KINDS else []
    return [
        f"{len(found)} operators are quantized already ({', '.join(named)}): they keep scales and codes; "
        "only what computes floats is looked at"
    ]


def _is_quantized(node: ir.Node) -> bool:
    if is_quantize(node) or is_dequantize(node) or node.op_type == "DynamicQuantizeLinear":
        return False
    if node.op_type.startswith("QLinear") or node.op_type in _INTEGER | _STORED:
        return True
    if node.op_type in PRODUCTS or node.op_type in CONVOLUTIONS:
        return True
    makers = [v.producer() for v in node.inputs if v is not None]
    return any(maker is not None and is_dequantize(maker) for maker in makers)


def audit_file(path: Path, target: str) -> Audit:
    """Audit a file on inputs that are made up.

    Raises:
        ModelError: It can't be taken, or nothing in it is quantized.
        UsageError: No inputs were found that it accepts.
    """
    from graphopt.ir.load import load
    from graphopt.verification.sampling import find_samples

    model = load(path)
    if not quantized_operators(model):
        raise ModelError(f"{path}: nothing in it is quantized", hint="quantize it with --data first")
    found = find_samples(model, _tried_by(path, target), seconds=SECONDS, seed=0).found
    if not found:
        raise UsageError(f"{path}: no inputs were found that {target} accepts")
    return audit(model, target, max(found, key=lambda sample: sample.elements).feeds)


def _tried_by(path: Path, target: str) -> Callable[[Feeds], list[Answer]]:
    """What runs inputs to see whether they are accepted: who is asked later."""
    from graphopt.verification.judge import JudgeError

    if target == "graphopt":
        from graphopt.runtime import InferenceSession

        run = InferenceSession(path).run
    else:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        run = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run

    def tried(feeds: Feeds) -> list[Answer]:
        try:
            return list(run(None, dict(feeds)))
        except Exception as error:  # each runtime has classes of its own
            raise JudgeError(target, error) from error

    return tried


def audit(model: ir.Model, target: str, feeds: Feeds, *, runs: int = RUNS) -> Audit:
    """Run a quantized model and say what its quantized operators became.

    Args:
        model: It stays as it is. For "graphopt" it is optimized first, as a session does.
        target: "graphopt": our engine; else onnxruntime.
        feeds: Inputs.
        runs: How many are measured.
    """
    if target == "graphopt":
        return _in_engine(model, feeds, runs)
    return _in_onnxruntime(model, feeds, runs)


def _audit(
    runtime: str, model: ir.Model, ran: Mapping[str, list[_Ran]], left: Iterable[_Ran], runs: int
) -> Audit:
    total = sum(r.nanoseconds for several in ran.values() for r in several)
    found: list[AuditedOperator] = []
    for name, node in quantized_operators(model):
        several = _of_node(ran, node)
        # A name may stand for several: the integer kernel is the operator, what is around it conversions.
        order: tuple[Verdict, ...] = ("integer", "stored", "float")
        best = min(several, key=lambda r: order.index(r.verdict), default=None)
        share = sum(r.nanoseconds for r in several) / total if total else 0.0
        operator = node.op_type if not node.domain else f"{node.domain}::{node.op_type}"
        if best is None:
            found.append(AuditedOperator(name, operator, "", "not run", 0.0))
        else:
            found.append(AuditedOperator(name, operator, best.kernel, best.verdict, share))
    conversions = list(left)
    quantize = sum(r.kernel == "QuantizeLinear" for r in conversions)
    of_weights = sum(r.of_weights for r in conversions)
    return Audit(
        runtime,
        tuple(found),
        Conversions(
            quantize,
            len(conversions) - quantize - of_weights,
            of_weights,
            sum(r.nanoseconds for r in conversions) / total if total else 0.0,
        ),
        total / max(runs, 1) / 1e6,
    )


def _of_node(ran: Mapping[str, list[_Ran]], node: ir.Node) -> list[_Ran]:
    """What ran of a node; of a call of ours what its body became, where there is no kernel for it."""
    found = ran.get(node.name or "", [])
    if found or node.op_type not in CONVOLUTIONS:
        return found
    inside = f"{node.name}/"
    return [r for name, several in ran.items() if name.startswith(inside) for r in several]


# ------------------------------------------------------------------ onnxruntime


class _Arguments(TypedDict, total=False):
    op_name: str
    input_type_shape: list[dict[str, list[int]]]
    activation_size: str


class _Event(TypedDict, total=False):
    cat: str
    name: str
    dur: float
    args: _Arguments


def _in_onnxruntime(model: ir.Model, feeds: Feeds, runs: int) -> Audit:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        path = Path(folder, "model.onnx")
        save(model, path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, dict(feeds))
        events: list[_Event] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran: dict[str, list[_Ran]] = {}
    left: dict[str, _Ran] = {}
    times: dict[tuple[str, str], float] = {}
    last: dict[tuple[str, str], _Event] = {}
    for event in events:
        name, kernel = event.get("name", ""), event.get("args", {}).get("op_name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time") and kernel not in _CONTROL_FLOW:
            key = re.sub(r"_token_\d+$", "", name.removesuffix("_kernel_time")), kernel
            times[key] = times.get(key, 0.0) + event["dur"] * 1e3
            last[key] = event
    for (name, kernel), nanoseconds in times.items():
        arguments = last[name, kernel]["args"]
        of_weights = kernel == "DequantizeLinear" and arguments.get("activation_size") == "0"
        made = _Ran(kernel, _verdict(kernel, arguments), nanoseconds, of_weights)
        ran.setdefault(name, []).append(made)
        if kernel in ("QuantizeLinear", "DequantizeLinear"):
            left[name] = made
    return _audit(f"onnxruntime {ort.__version__}", model, ran, left.values(), runs)


def _verdict(kernel: str, arguments: _Arguments) -> Verdict:
    if kernel in _STORED:
        return "stored"
    if kernel in _INTEGER or kernel.startswith("QLinear"):
        return "integer"
    types = [name for shape in arguments.get("input_type_shape", [])[:1] for name in shape]
    is_converting = kernel in ("QuantizeLinear", "DequantizeLinear")
    return "integer" if types and types[0] in _BYTES and not is_converting else "float"


# ------------------------------------------------------------------ our engine


def _in_engine(model: ir.Model, feeds: Feeds, runs: int) -> Audit:
    from graphopt.runtime import InferenceSession
    from graphopt.runtime.compilation import optimized_model

    made = optimized_model(model)
    session = InferenceSession(made, optimize=False)
    ran: dict[str, list[_Ran]] = {}
    left: list[_Ran] = []
    pairs = _conversions(made)
    for time in session.times(feeds, runs):
        if time.kernel in _CONTROL_FLOW or not time.calls:
            continue
        verdict: Verdict = "float"
        if time.kernel.startswith(_INTEGER_KERNELS):
            verdict = "integer"
        elif time.kernel in _STORED:
            verdict = "stored"
        names = [name.strip() for name in time.nodes.split(",")]
        for name in names:
            # An instruction's time is shared alike by what it runs.
            ran.setdefault(name, []).append(_Ran(time.kernel, verdict, time.nanoseconds / len(names)))
        if time.kernel in _CONVERTING:
            left += [
                _Ran(pairs[name], verdict, time.nanoseconds / len(names)) for name in names if name in pairs
            ]
    return _audit(f"graphopt {__version__}", made, ran, left, runs)


def _conversions(model: ir.Model) -> dict[str, str]:
    """Names of the Q and DQ of values that runs make."""
    return {
        node.name or "": node.op_type
        for _, graph in scopes(model.graph)
        for node in graph
        if is_quantize(node) or (is_dequantize(node) and constants.constant(node.inputs[0]) is None)
    }
