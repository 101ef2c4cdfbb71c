"""The search: points are built, measured, and the right one is taken."""

from __future__ import annotations

import pytest

from graphopt.quantization import search as module
from graphopt.quantization.limits import Limits
from graphopt.quantization.search import Search, search
from graphopt.quantization.speeds import keeps_codes, time_of
from tests.quantization.deciding import decoder, first, sentences


def searched(limits: Limits | None = None, target: str = "onnx", **options) -> Search:
    model, samples = decoder(), sentences(16)
    table, statistics = first(model, samples)
    return search(model, table, samples, statistics=statistics, limits=limits, target=target, **options)


def test_a_decoder_is_measured_along_its_path() -> None:
    found = searched(Limits(max_loss=1.0))
    assert found.is_reached and found.metric == "kl"
    taken = found.points[found.taken]
    assert taken.outcome.noise.steps == 16 * 12 and taken.outcome.noise.lost == 0
    assert taken.outcome.answers == 16
    assert 0.2 < taken.noise / taken.predicted < 5
    for name, plan in found.table.operators.items():
        assert plan.sensitivity == pytest.approx(
            next(
                found.sensitivity[g.name].loss(taken.choices[g.name])
                for g in found.groups
                if name in g.operators
            )
        )


def test_falling_back_where_it_costs_least_loses_less() -> None:
    found = searched(Limits(max_fallbacks=1))
    everything = next(p for p in found.points if p.fallbacks == 0)
    taken = found.points[found.taken]
    assert taken.fallbacks == 1 and taken.noise < everything.noise
    (fallen,) = [n for n, c in taken.choices.items() if c != "int8" and n != "loop:body/look"]
    reason = found.table.operators[fallen].reason
    assert reason is not None and "kl" in reason and "bytes" in reason


def test_small_tables_in_sixteen_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CRUMBS", 0.0)
    assert not any("float16" in p.choices.values() for p in searched(Limits(max_loss=1.0)).points)
    monkeypatch.setattr(module, "CRUMBS", 0.12)
    found = searched(Limits(max_loss=1.0))
    best = min(found.points, key=lambda p: p.noise)
    assert best.choices["loop:body/look"] == "float16"
    assert best.bytes < 1.12 * min(p.bytes for p in found.points)
    # Nothing asked for 4 bits, which would pay for it.
    assert not any("int4" in p.choices.values() for p in found.points)


def test_four_bits_where_a_size_asks_for_them() -> None:
    eight = searched(Limits(max_loss=1.0))
    size = eight.points[eight.taken].bytes - 4000
    found = searched(Limits(max_size=size))
    taken = found.points[found.taken]
    assert found.is_reached and taken.bytes <= size
    assert "int4" in taken.choices.values() and "float" not in taken.choices.values()
    far = searched(Limits(max_size=1000))
    assert not far.is_reached and far.points[far.taken].bytes == min(p.bytes for p in far.points)


def test_targets_say_what_a_fallback_stores() -> None:
    found = searched(Limits(max_fallbacks=1))
    members = {m.name: m for g in found.groups for m in g.members}
    classify = members["loop:body/classify"]
    # 40 outputs: unpacking codes takes onnxruntime longer than floats do.
    assert not keeps_codes("onnxruntime", classify)
    assert keeps_codes("onnxruntime", members["loop:body/up"])
    for target in ("onnx", "graphopt"):
        assert all(keeps_codes(target, m) for m in members.values())
    assert time_of("graphopt", classify, "int8") < time_of("graphopt", classify, "weight_only")
