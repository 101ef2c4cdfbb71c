"""The quantization benchmark makes models in processes of their own and says what each still says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import quantize, quantize_models, quantize_yardstick, quantize_zoo
from benchmarks.quantize_makers import MAKERS, is_peer, samples
from benchmarks.quantize_models import Made, operators, signal_to_noise

RNG = np.random.default_rng(0)
RECIPE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 64], "kind": "normal"}],
    "sizes": [{"batch": 4}, {"batch": 1}],
}


def classifier(path: Path) -> Path:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N,64] x) => (float[N,32] y) { h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v) }"""
    )
    for name, shape in (("w", (64, 64)), ("v", (64, 32))):
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32) / 8, name)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path)
    return path


def test_the_recogniser(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "--only",
        "graphopt weights int8",
        "static entropy",
        "--seconds",
        "0.05",
        "--keep",
        str(tmp_path),
    ]
    quantize.main(given)
    printed = capsys.readouterr().out
    lines = {line[:22].strip(): line for line in printed.splitlines()}
    assert "KL of a tensor at 2,048 bins" in printed
    # Samples of several lengths are what onnxruntime's histograms can't stack.
    assert "inhomogeneous" in lines["static entropy"]
    for name in ("float optimized", "graphopt weights int8"):
        assert " random " in lines[name] and "x" in lines[name]
    size = (tmp_path / "graphopt_weights_int8.onnx").stat().st_size
    assert f"{size:,}" in lines["graphopt weights int8"]
    assert len(list(samples(tmp_path / "samples"))) == quantize.RANDOM


def test_a_folder_of_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = classifier(tmp_path / "zoo" / "bert_small.onnx")
    path.with_suffix(".json").write_text(json.dumps(RECIPE))
    monkeypatch.setattr(quantize_zoo, "MAKERS", ("graphopt weights int8", "static minmax"))
    monkeypatch.setattr(quantize_zoo, "SECONDS", 0.05)
    quantize.main(["--no-recogniser", "--models", str(path.parent), "--keep", str(tmp_path / "made")])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bert_small")]
    assert len(rows) == 3
    noise = [float(row[51:].split()[1]) for row in rows]
    assert noise[0] > 100 and 30 < noise[2] < 60 and noise[1] > noise[2]


def test_the_ablation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = classifier(tmp_path / "zoo" / "bert_small.onnx")
    path.with_suffix(".json").write_text(json.dumps(RECIPE))
    monkeypatch.setattr(quantize, "UNSEEN", 6)
    given = ["--ablation", "--no-recogniser", "--models", str(path.parent)]
    quantize.main(given)
    printed = capsys.readouterr().out
    assert "bert_small: 16 samples to calibrate on, 6 others to measure on" in printed
    lines = {line[:34].strip(): line[34:].split() for line in printed.splitlines() if line.startswith("  ")}
    assert {"auto", "moments", "gptq", "biases", "smoothing", "everything", "without any"} <= set(lines)
    decibels, gain, distance, less = lines["admm"]
    assert float(gain) > 0 and less.endswith("%") and not less.startswith("-")
    assert 20 < float(decibels) < 80 and 0 < float(distance) < 1
    assert float(lines["without any"][1]) < 0
    quantize.main([*given, "--only", "ranges"])
    titles = [line for line in capsys.readouterr().out.splitlines() if line.endswith("less")]
    assert len(titles) == 1 and titles[0].startswith("ranges")


def test_inputs_from_the_signature(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    feeds = quantize_zoo.feeds_of(path, 0)
    assert {n: (a.shape, a.dtype.name) for n, a in feeds.items()} == {"x": ((8, 64), "float32")}
    np.testing.assert_array_equal(feeds["x"], quantize_zoo.feeds_of(path, 0)["x"])
    path.with_suffix(".json").write_text(json.dumps(RECIPE))
    assert quantize_zoo.feeds_of(path, 0)["x"].shape == (4, 64)


def test_which_models_of_a_folder(tmp_path: Path) -> None:
    for name in ("vit_b", "bert_a", "bert_b", "other"):
        (tmp_path / f"{name}.onnx").touch()
    chosen = quantize_zoo.chosen
    assert [p.stem for p in chosen(tmp_path, [])] == ["bert_a", "vit_b"]
    assert [p.stem for p in chosen(tmp_path, ["b_", "other"])] == ["other"]


def test_signal_to_noise() -> None:
    right, other = [np.array([1.0, 2, 3, 4], np.float32)], [np.array([1.1, 1.9, 3.2, 3.9], np.float32)]
    assert signal_to_noise([(right, other)]) == pytest.approx(26.320232, rel=1e-5)
    assert signal_to_noise([(right, right)]) == float("inf")


def test_a_scorer_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(
        "def score(run, name, limit):\n"
        "    out = [run(f) for f in (1, 2)]\n"
        "    return dict(cer=out[0], ser=out[1], said=out, logits=out)\n"
        "def compare(a, b):\n"
        "    return sum(x == y for x, y in zip(a['said'], b['said'])), 1.0, 0.25\n"
    )
    module = quantize_yardstick.scorer(tmp_path)
    assert module is not None and quantize_yardstick.scorer(tmp_path / "none") is None
    assert [p.name for p in tmp_path.iterdir()] == ["score.py"]
    right = quantize_yardstick.by_scorer(module, lambda f: f["feats"], None)  # type: ignore[arg-type,return-value]
    other = quantize_yardstick.by_scorer(module, lambda f: f["feats"] * 2, None)  # type: ignore[arg-type,return-value]
    first, second = quantize_yardstick.compared(module, right, other)
    assert (first.what, second.what) == ("val", "val_hard")
    assert first.errors == (1, 2) and (first.identical, first.count, first.difference) == (0, 2, 0.25)
    assert quantize_yardstick.cell(first) == "+1.00 +2.0    0.0 % 0.2500"


def test_sizes(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").write_bytes(b"123")
    assert Made("m", path).bytes == path.stat().st_size + 3
    assert operators(path) == 3
    assert [name for name in MAKERS if not is_peer(name)] == [n for n in MAKERS if n.startswith("graphopt")]


def test_one_maker_that_fails(tmp_path: Path) -> None:
    model = classifier(tmp_path / "m.onnx")
    data = tmp_path / "samples"
    data.mkdir()
    made = quantize_models.make("graphopt", model, model, data, tmp_path)
    assert "no samples there" in made.why
