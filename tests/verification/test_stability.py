from __future__ import annotations

import numpy as np

from graphopt.testing import model_from_text
from graphopt.verification import Verifier
from graphopt.verification.compare import magnitude
from graphopt.verification.judge import load_onnxruntime
from graphopt.verification.sampling import Sample, with_scales
from graphopt.verification.stability import Stability

STEPS = "g (float[N,64] x) => (float[N,64] y) { a = Mul (x, 4.0)  b = Round (a)  y = MOVED }"
SMOOTH = "g (float[N,64] x) => (float[N,64] y) { y = Mul (x, 4.0) }"


def sample(model, x):
    feeds = {"x": np.asarray(x, np.float32)}
    (found,) = with_scales([Sample(feeds, {"N": len(x)}, tuple(load_onnxruntime(model).run(feeds)))])
    return found


def test_an_output_on_the_edge_of_two_steps_is_unstable():
    model = model_from_text(STEPS.replace("MOVED", "Identity (b)"))
    stability = Stability(lambda: load_onnxruntime(model))
    edge, middle = (sample(model, np.full((2, 64), value)) for value in (0.375, 0.3))
    assert stability.explains(edge, 0, 0.5)
    assert not stability.explains(middle, 0, 0.5)


def test_a_smooth_output_is_stable_within_its_noise():
    model = model_from_text(SMOOTH)
    stability = Stability(lambda: load_onnxruntime(model))
    found = sample(model, np.linspace(-1, 1, 128).reshape(2, 64))
    assert not stability.explains(found, 0, 1e-4)


def test_a_model_of_integers_has_no_noise():
    model = model_from_text("g (int64[N] x) => (int64[N] y) { y = Neg (x) }")
    stability = Stability(lambda: load_onnxruntime(model))
    feeds = {"x": np.arange(3)}
    (found,) = with_scales([Sample(feeds, {"N": 3}, (np.arange(3),))])
    assert not stability.explains(found, 0, 1e-9)


def test_the_original_is_run_once_a_sample():
    model = model_from_text(SMOOTH)
    loads = []

    def load():
        loads.append(1)
        return load_onnxruntime(model)

    stability = Stability(load)
    found = sample(model, np.ones((1, 64)))
    for _ in range(3):
        stability.explains(found, 0, 1.0)
    assert len(loads) == 1


def test_what_the_original_does_itself_is_no_mismatch_but_is_said():
    """The user's sample lies on edges, where an exact change of the arithmetic turns a step."""
    before = model_from_text(STEPS.replace("MOVED", "Identity (b)"))
    after = model_from_text(
        STEPS.replace("Mul (x, 4.0)", "Mul (x, 4.000001)").replace("MOVED", "Identity (b)")
    )
    data = {"x": np.full((1, 64), 0.625, np.float32)}
    found = Verifier(before, data=data).check(after)
    assert found.status == "verified"
    assert any("not judged at x[0]=1" in note for note in found.notes)


def test_a_fault_in_an_unstable_model_is_still_found():
    before = model_from_text(STEPS.replace("MOVED", "Identity (b)"))
    after = model_from_text(STEPS.replace("MOVED", "Neg (b)"))
    assert Verifier(before).check(after).status == "mismatch"


def test_where_nothing_could_be_judged_it_is_unverified():
    """The sine of ten million times x turns around where x moves by a millionth."""
    text = "g (float[64] x) => (float[64] y) { z = Mul (x, 10000000.0)  y = WAVE (z) }"
    sine, cosine = (model_from_text(text.replace("WAVE", wave)) for wave in ("Sin", "Cos"))
    found = Verifier(sine).check(cosine)
    assert found.status == "unverified"
    assert all("not judged" in note for note in found.notes)


def test_small_answers_are_held_to_the_scale_of_their_kind():
    """A sigmoid of 1e-6 is as uncertain as one of 0.5."""
    before = model_from_text("g (float[N,1] x) => (float[N,1] y) { y = Sigmoid (x) }")
    after = model_from_text("g (float[N,1] x) => (float[N,1] y) { s = Sigmoid (x)  y = Add (s, 0.00000006) }")
    data = [{"x": np.full((1, 1), value, np.float32)} for value in (-14.0, 1.0)]
    assert Verifier(before, data=data).check(after).status == "verified"


def test_the_users_samples_have_scales_of_their_own():
    """What is sampled gives up to 3; the user's answers are about 0.001, so 0.0001 is wrong there."""
    before = model_from_text("g (float[N,8] x) => (float[N,8] y) { y = Identity (x) }")
    after = model_from_text("g (float[N,8] x) => (float[N,8] y) { y = Add (x, 0.0001) }")
    data = {"x": np.linspace(1e-4, 1e-3, 8, dtype=np.float32)[None]}
    assert Verifier(before).check(after).status == "verified"
    assert Verifier(before, data=data).check(after).status == "mismatch"


def test_magnitude():
    assert magnitude(np.array([1.0, -3.0, np.inf, np.nan], np.float32)) == 3
    assert magnitude([np.array([1.0]), np.array([2.0])]) == 2
    assert magnitude(np.array([7])) == 0
    assert magnitude(np.zeros((0,), np.float32)) == 0
    assert magnitude(None) == 0
