"""Quant tables for other tools, and theirs for ours; what is lost on the way is said, field by field."""

from graphopt.quantization.exchange.tables import TOOLS, export, restore

__all__ = ["TOOLS", "export", "restore"]
