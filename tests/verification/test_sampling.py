from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.testing import model_from_text
from graphopt.verification import sampling
from graphopt.verification.compare import Answer
from graphopt.verification.isolation import can_isolate
from graphopt.verification.judge import Feeds, JudgeError, load_onnxruntime
from graphopt.verification.sampling import MAX_ELEMENTS, Samples, find_samples

ZERO = pytest.mark.skipif(not can_isolate(), reason="sizes of zero are only tried in a child process")


def model(signature: str, body: str = "y = Identity (x)", **kwargs) -> ir.Model:
    return model_from_text(f"g ({signature}) => (float[a] y) {{ {body} }}", **kwargs)


def accept(is_legal: Callable[[dict[str, tuple[int, ...]]], bool]) -> Callable[[Feeds], Sequence[Answer]]:
    """An original that takes what `is_legal` allows and gives random numbers."""

    def run(feeds: Feeds) -> Sequence[Answer]:
        shapes = {k: v.shape for k, v in feeds.items() if isinstance(v, np.ndarray)}
        if not is_legal(shapes):
            raise JudgeError("test", ValueError("illegal"))
        return [np.random.default_rng(0).standard_normal(3)]

    return run


def find(found: ir.Model, is_legal=lambda shapes: True, seconds=10.0) -> Samples:
    return find_samples(found, accept(is_legal), seconds=seconds, seed=0)


def sizes(samples: Samples) -> list[tuple[int, ...]]:
    return list(dict.fromkeys(tuple(s.sizes.values()) for s in samples.found))


@ZERO
def test_sizes_are_different_primes_ones_large_and_zero_in_turn():
    found = find(model("float[N,S,T] x"))
    assert sizes(found) == [(2, 7, 5), (1, 1, 1), (3, 33, 47), (0, 7, 5), (2, 0, 5), (2, 7, 0)]
    assert found.skipped == 0


def test_equal_names_get_equal_sizes():
    for sample in find(model("float[N,S] x, int64[N,S] z")).found:
        assert sample.feeds["x"].shape == sample.feeds["z"].shape


def test_fixed_dims_stay_and_values_differ_between_samples():
    found = find(model("float[2,3] x"))
    assert len(found.found) == sampling.FIXED_SAMPLES
    assert not np.array_equal(found.found[0].feeds["x"], found.found[1].feeds["x"])


def test_dims_without_names_and_negative_ones_are_dynamic():
    graph = model("float[N,3] x")
    graph.graph.inputs[0].shape = ir.Shape([None, -1])
    assert set(find(graph).found[0].sizes) == {"x[0]", "x[1]"}


def test_a_tensor_of_unknown_rank_is_sampled_as_a_vector():
    graph = model("float[N] x")
    graph.graph.inputs[0].shape = None
    assert find(graph).found[0].feeds["x"].ndim == 1


def test_illegal_sizes_are_skipped_and_counted():
    found = find(model("float[N,S] x"), lambda s: s["x"][0] in (2, 3) and s["x"][1] in (7, 33))
    assert sizes(found) == [(2, 7), (3, 33)]
    assert found.skipped > 0
    assert "illegal" in found.reason


def test_all_dims_equal_is_tried_last():
    def equal(s):
        return s["x"][0] == s["x"][1] == s["x"][2] == s["x"][3]

    first = find(model("float[a,b,c,d] x"), equal).found[0]
    assert set(first.sizes.values()) == {7}


def test_lengths_grow_until_the_original_accepts_them():
    found = find(model("float[N,L] x"), lambda s: s["x"][1] >= 400)
    assert sizes(found)[0] == (2, 416)
    assert all(s[1] >= 400 for s in sizes(found))


def test_images_grow_to_multiples_of_32():
    found = find(model("float[N,3,H,W] x"), lambda s: s["x"][2] % 32 == s["x"][3] % 32 == 0 < s["x"][2])
    assert (2, 32, 64) in sizes(found)
    assert all(s[1] % 32 == 0 for s in sizes(found))


def test_a_mask_over_cache_and_tokens():
    found = find(
        model("int64[N,S] x, int64[N,T] mask, float[N,4,P,8] past"),
        lambda s: s["mask"][1] == s["x"][1] + s["past"][2],
    )
    assert {"N": 2, "S": 7, "T": 12, "P": 5} in [s.sizes for s in found.found]


@ZERO
def test_a_cache_of_zero_is_tried():
    found = find(
        model("int64[N,S] x, int64[N,T] mask, float[N,4,P,8] past"),
        lambda s: s["mask"][1] == s["x"][1] + s["past"][2],
    )
    assert {"N": 2, "S": 7, "T": 7, "P": 0} in [s.sizes for s in found.found]


def test_channels_are_told_by_the_weights():
    graph = model_from_text(
        """g (float[N,C,H,W] x) => (float[N,5,a,b] y) <float[5,3,1,1] w = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}>
        { y = Conv (x, w) }"""
    )
    found = find_samples(graph, load_onnxruntime(graph).run, seconds=10, seed=0)
    assert found.found
    assert {s.sizes["C"] for s in found.found} == {3}
    assert found.found[0].sizes == {"N": 2, "C": 3, "H": 7, "W": 5}


def test_nothing_legal_gives_no_samples_and_ends():
    found = find(model("float[a,b,c] x, float[d,e,f] z"), lambda s: False)
    assert not found.found
    assert found.skipped <= 2 * sampling.MAX_ATTEMPTS + 1


def test_the_time_limit_ends_the_search():
    found = find(model("float[a,b,c] x"), lambda s: False, seconds=0.0)
    assert found.skipped == 1
    found = find(model("float[a,b] x"), seconds=0.0)
    assert len(found.found) == 1


def test_inputs_stay_small():
    found = find(model("float[N,3,512,H,W] x"), lambda s: s["x"][3] >= 64)
    assert all(s.elements <= MAX_ELEMENTS for s in found.found)


def test_tokens_stay_few():
    """Attention over thousands of tokens takes gigabytes."""
    longest = 0

    def never(shapes):
        nonlocal longest
        longest = max(longest, shapes["ids"][1])
        return False

    find(model("int64[N,S] ids", "y = Cast <to = 1> (ids)"), never)
    assert 400 <= longest < 1000


@ZERO
def test_a_crash_at_zero_is_noted_and_survived():
    import os

    def run(feeds: Feeds) -> Sequence[Answer]:
        if not feeds["x"].size:
            os.abort()
        return [feeds["x"]]

    found = find_samples(model("float[N] x"), run, seconds=10, seed=0)
    assert sizes(found) == [(2,), (1,), (3,)]
    assert found.notes == (
        "not verified at N=0: the judge crashes on the original (the process ended with SIGABRT)",
    )


@ZERO
def test_a_crash_at_one_is_noted_and_survived():
    import os

    def run(feeds: Feeds) -> Sequence[Answer]:
        if feeds["x"].size == 1:
            os.abort()
        return [feeds["x"]]

    found = find_samples(model("float[N] x"), run, seconds=10, seed=0)
    assert sizes(found) == [(2,), (3,), (0,)]
    assert found.notes == (
        "not verified at N=1: the judge crashes on the original (the process ended with SIGABRT)",
    )


def test_other_numbers_are_tried_where_an_output_never_changes():
    """Relu(x - 5) is zero for numbers of a normal distribution, all but surely."""
    graph = model_from_text("g (float[N,3] x) => (float[N,3] y) { s = Sub (x, 5.0)  y = Relu (s) }")
    found = find_samples(graph, load_onnxruntime(graph).run, seconds=10, seed=0)
    assert any(np.any(s.outputs[0] > 0) for s in found.found)


def test_both_branches_of_a_condition_on_an_input():
    graph = model_from_text(
        """g (int64 rate, float[N] x) => (float[N] y) {
            c = Equal (rate, 16000)
            y = If (c) <then_branch = t () => (float[N] p) { p = Neg (x) },
                        else_branch = e () => (float[N] q) { q = Abs (x) }>
        }"""
    )
    found = find_samples(graph, load_onnxruntime(graph).run, seconds=10, seed=0)
    assert {int(s.feeds["rate"]) == 16000 for s in found.found} == {True, False}


def test_branches_on_sizes_and_data_get_more_samples():
    graph = model_from_text(
        """g (float[N,S] x) => (float[N,S] y) {
            s = Shape (x)  n = Gather (s, 1)  c = Less (n, 5)
            y = If (c) <then_branch = t () => (float[N,S] p) { p = Neg (x) },
                        else_branch = e () => (float[N,S] q) { q = Abs (x) }>
        }"""
    )
    found = find_samples(graph, load_onnxruntime(graph).run, seconds=10, seed=0)
    telling = {s.sizes["S"] < 5 for s in found.found if s.elements > 2}
    assert telling == {True, False}
    assert len(found.found) >= 10


def test_sequences_are_sampled():
    graph = model_from_text(
        "g (seq(float[N,2]) x) => (float[a,2] y) { y = ConcatFromSequence <axis = 0> (x) }"
    )
    found = find_samples(graph, load_onnxruntime(graph).run, seconds=10, seed=0)
    assert len(found.found) >= 3
    assert isinstance(found.found[0].feeds["x"], list)


def test_samples_are_the_same_in_every_run():
    first, second = (find(model("float[N,S] x, int64[N] ids")) for _ in range(2))
    for a, b in zip(first.found, second.found, strict=True):
        assert a.sizes == b.sizes
        assert np.array_equal(a.feeds["x"], b.feeds["x"])
