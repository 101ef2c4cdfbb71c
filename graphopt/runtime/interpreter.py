"""A Program without the native engine: one node at a time, by the reference implementation.

Programs for it hold instructions of the reference implementation, control flow and taps only
(`lower(..., is_plain=True)`). Values are arrays, lists of them, and None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import ExecutionError
from graphopt.ir.dims import Dim, substitute
from graphopt.lowering.program import ABSENT, Definition, Instruction, Module, Program, Source
from graphopt.runtime.arrays import DTYPES, Array, Result, from_engine
from graphopt.runtime.options import RunOptions
from graphopt.runtime.reference import Reference

__all__ = ["PythonEngine"]


class PythonEngine:
    """Runs a program of reference instructions; several threads may do so at once."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._reference = Reference()

    def run(
        self, values: list[object], options: RunOptions, targets: Sequence[Array | None] | None = None
    ) -> list[Result]:
        """As the native engine; the memory limit is of each value."""
        results = _Run(self._program, self._reference, options).module(
            self._program.main, [from_engine(value) for value in values], {}
        )
        if targets is None:
            return results
        return [
            self._written(*pair) for pair in zip(self._program.output_names, results, targets, strict=True)
        ]

    @staticmethod
    def _written(name: str, result: Result, target: Array | None) -> Result:
        if target is None:
            return result
        if not isinstance(result, np.ndarray) or result.shape != target.shape or result.dtype != target.dtype:
            found = f"{result.dtype} {list(result.shape)}" if isinstance(result, np.ndarray) else "no tensor"
            wanted = f"{target.dtype} {list(target.shape)}"
            raise ExecutionError(f"output {name!r} is {found}, the memory for it {wanted}", value=name)
        target[...] = result
        return None


class _Run:
    """One run."""

    def __init__(self, program: Program, reference: Reference, options: RunOptions) -> None:
        self._constants = program.constants
        self._reference = reference
        self._options = options
        self._iteration: list[int] = []
        self._sizes: dict[str, Dim] = {}

    def module(self, module: Module, given: Sequence[Result], captured: dict[int, Result]) -> list[Result]:
        """A module's outputs."""
        values: dict[int, Result] = {**captured, **dict(zip(module.inputs, given, strict=False))}
        for number, register in enumerate(module.registers):
            if register.constant != ABSENT:
                values[number] = self._constants[register.constant].arrays[0]
        told: dict[int, list[Definition]] = {}
        for definition in module.definitions:
            told.setdefault(definition.register, []).append(definition)
        self._define(told, values, list(values))
        for instruction in module.instructions:
            inputs = [None if i == ABSENT else values.get(i) for i in instruction.inputs]
            results = self._results(instruction, inputs, values)
            values.update((o, r) for o, r in zip(instruction.outputs, results, strict=False) if o != ABSENT)
            self._define(told, values, instruction.outputs)
        return [values.get(output) for output in module.outputs]

    def _define(
        self, told: dict[int, list[Definition]], values: dict[int, Result], registers: Sequence[int]
    ) -> None:
        """Note the symbols that values tell."""
        for register in registers:
            for d in told.get(register, ()):
                value = values.get(register)
                if not isinstance(value, np.ndarray):
                    continue
                found = value.shape[d.index] if d.source is Source.DIM else int(value.reshape(-1)[d.index])
                weight, rest = substitute(d.weight, self._sizes), substitute(d.rest, self._sizes)
                if isinstance(weight, int) and isinstance(rest, int) and weight:
                    self._sizes[d.symbol] = (found - rest) // weight

    def _results(
        self, instruction: Instruction, inputs: list[Result], values: dict[int, Result]
    ) -> Sequence[Result]:
        kernel = instruction.kernel
        if kernel == "tap":
            if self._options.tap is not None:
                shown = inputs[0]
                if isinstance(shown, np.ndarray):
                    shown = shown.view()
                    shown.flags.writeable = False
                self._options.tap(instruction.data.decode(), tuple(self._iteration), shown)
            return ()
        run = {"reference": self._node, "if": self._if, "loop": self._loop, "scan": self._scan}.get(kernel)
        if run is None:
            raise AssertionError(f"{kernel} in a program for the reference implementation")
        try:
            return run(instruction, inputs, values)
        except ExecutionError as error:
            if error.node is not None:
                raise
            name = ", ".join(instruction.nodes)
            raise ExecutionError(f"node {name!r}: {error}", node=name) from error

    def _node(
        self, instruction: Instruction, inputs: list[Result], values: dict[int, Result]
    ) -> Sequence[Result]:
        del values
        results = self._reference.run(id(instruction), instruction.data, inputs)
        limit = self._options.memory_limit_bytes
        for result in results:
            if limit and isinstance(result, np.ndarray) and result.nbytes > limit:
                raise ExecutionError(f"{result.nbytes} bytes: over the limit of {limit}")
        return results

    def _if(
        self, instruction: Instruction, inputs: list[Result], values: dict[int, Result]
    ) -> Sequence[Result]:
        body = instruction.bodies[0 if _is_true(inputs[0]) else 1]
        return self.module(body, [], _captured(body, values))

    def _loop(
        self, instruction: Instruction, inputs: list[Result], values: dict[int, Result]
    ) -> Sequence[Result]:
        body = instruction.bodies[0]
        trips = None if inputs[0] is None else int(_array(inputs[0]).reshape(-1)[0])
        condition: Result = np.array(True) if inputs[1] is None else inputs[1]
        carried = list(inputs[2:])
        stacks: list[list[Array]] = [[] for _ in body.outputs[1 + len(carried) :]]
        self._iteration.append(0)
        i = 0
        while (trips is None or i < trips) and _is_true(condition):
            if 0 < self._options.iteration_limit <= i:
                raise ExecutionError(f"(Loop) does not end within {self._options.iteration_limit} iterations")
            self._iteration[-1] = i
            given = [np.array(i, np.int64), condition, *carried]
            condition, *made = self.module(body, given, _captured(body, values))
            carried = made[: len(carried)]
            for stack, item in zip(stacks, made[len(carried) :], strict=True):
                stack.append(_array(item))
            i += 1
        self._iteration.pop()
        outputs = body.outputs[1 + len(carried) :]
        stacked = [self._stacked(s, 0, body, o) for s, o in zip(stacks, outputs, strict=True)]
        return [*carried, *stacked]

    def _scan(
        self, instruction: Instruction, inputs: list[Result], values: dict[int, Result]
    ) -> Sequence[Result]:
        body = instruction.bodies[0]
        ints = [int(i) for i in instruction.ints if isinstance(i, int)]
        states, slices, stacked = ints[:3]
        axes, directions = ints[3 : 3 + slices], ints[3 + slices : 3 + 2 * slices]
        rest = ints[3 + 2 * slices :]
        carried = list(inputs[:states])
        scanned = [np.moveaxis(_array(x), axis, 0) for x, axis in zip(inputs[states:], axes, strict=True)]
        scanned = [x[::-1] if d else x for x, d in zip(scanned, directions, strict=True)]
        if len({len(x) for x in scanned}) > 1:
            raise ExecutionError(f"(Scan): inputs of {', '.join(str(len(x)) for x in scanned)} slices")
        stacks: list[list[Array]] = [[] for _ in range(stacked)]
        self._iteration.append(0)
        for i, parts in enumerate(zip(*scanned, strict=True)):
            self._iteration[-1] = i
            made = self.module(body, [*carried, *parts], _captured(body, values))
            carried = made[:states]
            for stack, item in zip(stacks, made[states:], strict=True):
                stack.append(_array(item))
        self._iteration.pop()
        outputs = body.outputs[states:]
        results = [
            self._stacked(stack[::-1] if rest[stacked + k] else stack, rest[k], body, outputs[k])
            for k, stack in enumerate(stacks)
        ]
        return [*carried, *results]

    def _stacked(self, items: list[Array], axis: int, body: Module, output: int) -> Array:
        if items:
            return np.stack(items, axis)
        register = body.registers[output]
        known = [substitute(dim, self._sizes) for dim in register.dims or ()]
        dims = [dim if isinstance(dim, int) else 0 for dim in known]
        dims.insert(axis if axis >= 0 else axis + len(dims) + 1, 0)
        return np.zeros(dims, DTYPES.get(register.dtype, np.dtype(np.float32)))


def _captured(body: Module, values: dict[int, Result]) -> dict[int, Result]:
    return {inside: values.get(outside) for outside, inside in body.captures}


def _array(value: Result) -> Array:
    if not isinstance(value, np.ndarray):
        raise ExecutionError("a tensor is wanted here")
    return value


def _is_true(value: Result) -> bool:
    array = _array(value)
    if array.dtype != np.bool_ or array.size != 1:
        raise ExecutionError("a condition is one bool")
    return bool(array.reshape(-1)[0])
