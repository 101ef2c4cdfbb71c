"""When may the model's opset be raised? As `--opset` says, and never where an operator is not exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.targets import Target

# The newest opset that `auto` goes to: the last one that widely used runtimes had when this was written.
AUTO_CEILING = 23


class OpsetRaised(Exception):
    """The model was converted under the driver's feet: the group starts over."""


class OpsetPolicy:
    """`auto`: raised where something fuses by it; `keep`: never; a number: that version, from the start.

    Attributes:
        raised: (from, to) of each raise that happened.
        refused: What stood in the way, by version.
    """

    def __init__(self, policy: Literal["auto", "keep"] | int, target: Target) -> None:
        if isinstance(policy, str) and policy not in ("auto", "keep"):
            raise UsageError(f"--opset takes auto, keep or a number, not {policy!r}")
        self.policy = policy
        self.target = target
        self.ceiling = min(AUTO_CEILING, target.newest_opset)
        self.raised: list[tuple[int, int]] = []
        self.refused: dict[int, str] = {}

    def raise_to(self, model: ir.Model, version: int) -> bool:
        """Convert in place, if that is allowed and exact: to the ceiling, or else to `version`.

        Going to the ceiling at once spares the later fusions a conversion each. False: nothing was done.
        """
        from graphopt.ir import opset_conversion

        current = model.graph.opset_imports.get("", 1)
        if self.policy != "auto" or version > self.ceiling or version <= current:
            return False
        for wanted in dict.fromkeys((self.ceiling, version)):
            if wanted in self.refused:
                continue
            blockers = [str(b) for b in opset_conversion.can_convert(model, wanted)]
            blockers += self._left_behind(model, wanted)
            if not blockers:
                opset_conversion.convert(model, wanted)
                self.raised.append((current, wanted))
                return True
            self.refused[wanted] = "; ".join(blockers[:3])
        return False

    def _left_behind(self, model: ir.Model, version: int) -> list[str]:
        """Operators that the standard has in that version, but no kernel of the target."""
        found = {
            node.op_type: f"{self.target.name} runs {node.op_type} in older opsets only"
            for node in model.graph.all_nodes()
            if node.domain == "" and self.target.ends_before("", node.op_type, version)
        }
        return list(found.values())
