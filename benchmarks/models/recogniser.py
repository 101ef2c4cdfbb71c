"""A small speech recogniser: SAN-M encoder, greedy decoder with growing caches in a Loop.

    python -m benchmarks.models.recogniser OUT.onnx

    feats float32 (1, T, 80) -> tokens int64 (L), logits float32 (L, vocabulary)

Written as the TorchScript exporter writes it at opset 13 without folding: Constants as nodes, LayerNorm in
nine nodes, weights behind Transposes, views behind Shape/Gather/Unsqueeze/Concat, an If for a squeeze and
one for a short-circuit `and`, the projections of the encoder computed again in every step, and the body's
inputs declared with the shapes of the first step, from which they grow. The weights are random: what it
decodes means nothing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.models.builder import GraphBuilder, TensorProto, save, uniform
from benchmarks.models.layers import (
    ONNX_INT64_MAX,
    attend,
    constant_pad_amounts,
    feed_forward,
    layer_norm,
    layer_norm_with,
    linear,
    linear_with,
    norm_weights,
    size,
    transposed,
    view,
)

OPSET = 13
END = 2
FRAMES_STACKED, FRAME_STEP = 7, 3


@dataclass(frozen=True)
class Config:
    """Sizes of the model; the defaults make 0.9 MB."""

    features: int = 80
    width: int = 64
    heads: int = 4
    hidden: int = 128
    taps: int = 11
    encoder_layers: int = 2
    decoder_layers: int = 2
    vocabulary: int = 30
    steps: int = 16

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.heads


def build(config: Config = Config()) -> onnx.ModelProto:
    """The whole recogniser as one model."""
    g = GraphBuilder()
    feats = g.input("feats", TensorProto.FLOAT, [1, "T", config.features])
    with g.module("encoder"):
        memory = encoder(g, feats, config)
    with g.module("decoder"):
        tokens, logits = decoder(g, memory, config)
    g.output(tokens, TensorProto.INT64, ["L"], "tokens")
    g.output(logits, TensorProto.FLOAT, ["L", "Looplogits_dim_1"], "logits")
    return g.model("recogniser", OPSET)


def encoder(g: GraphBuilder, feats: str, c: Config) -> str:
    """feats (1, T, features) -> (1, ceil(T / 3), width)."""
    x = linear(g, stacked_frames(g, feats), "front", FRAMES_STACKED * c.features, c.width)
    x = g.op("Mul", x, g.constant(np.sqrt(c.width), np.float32))
    x = g.op("Mul", x, g.constant(0.25, np.float32))
    x = g.op("Add", x, position_code(g, g.constant(0), size(g, x, 1), c.width))
    for i in range(c.encoder_layers):
        with g.module(f"layers.{i}"):
            with g.module("attn"):
                y = san_m(g, layer_norm(g, x, "norm1", c.width), c)
            x = g.op("Add", x, y)
            x = g.op("Add", x, feed_forward(g, layer_norm(g, x, "norm2", c.width), c.width, c.hidden))
    return layer_norm(g, x, "norm", c.width)


def stacked_frames(g: GraphBuilder, feats: str) -> str:
    """Each third frame with its neighbours, edges repeated: (1, T, F) -> (1, ceil(T / 3), 7 F)."""
    more = g.op("Add", size(g, feats, 1), g.constant(FRAME_STEP))
    whole = g.op("Div", g.op("Sub", more, g.constant(1)), g.constant(FRAME_STEP))
    count = g.op("Cast", g.op("Cast", whole, to=TensorProto.INT32), to=TensorProto.INT64)
    axis, one = g.constant([1]), g.constant([1])
    first = g.op("Slice", feats, g.constant([0]), g.constant([1]), axis, one)
    last = g.op("Slice", feats, g.constant([-1]), g.constant([ONNX_INT64_MAX]), axis, one)
    left = g.op("Tile", first, g.constant([1, FRAMES_STACKED // 2, 1]))
    right = g.op("Tile", last, g.constant([1, FRAMES_STACKED, 1]))
    padded = g.op("Concat", left, feats, right, axis=1)
    starts = g.op("Unsqueeze", g.op("Range", g.constant(0), count, g.constant(1)), g.constant([1]))
    window = g.constant(np.arange(FRAMES_STACKED)[None, :])
    index = g.op("Add", g.op("Mul", starts, g.constant(FRAME_STEP)), window)
    windows = g.op("Gather", padded, index, axis=1)
    width = g.op("Mul", size(g, padded, 2), g.constant(FRAMES_STACKED))
    return view(g, windows, size(g, padded, 0), count, width)


def position_code(g: GraphBuilder, start: str, stop: str, width: int) -> str:
    """Sinusoidal code of the positions from start to stop, exclusive: (1, stop - start, width)."""
    first, last = (g.op("Cast", bound, to=TensorProto.FLOAT) for bound in (start, stop))
    position = g.op("Unsqueeze", g.op("Range", first, last, g.constant(1.0, np.float32)), g.constant([1]))
    frequency = np.exp(np.arange(0, width, 2) * (-np.log(10000.0) / width))
    angle = g.op("Mul", position, g.constant(frequency, np.float32))
    return g.op("Unsqueeze", g.op("Concat", g.op("Sin", angle), g.op("Cos", angle), axis=1), g.constant([0]))


def san_m(g: GraphBuilder, x: str, c: Config) -> str:
    """Self-attention plus its memory block, a depthwise convolution over the values."""
    qkv = linear(g, x, "qkv", c.width, 3 * c.width)
    query, key, value = g.node("Split", qkv, g.constant([c.width] * 3), outputs=3, axis=-1)
    amounts = constant_pad_amounts(g, (c.taps - 1) // 2, c.taps // 2)
    rows = g.op("Transpose", value, perm=[0, 2, 1])
    padded = g.op("Pad", rows, amounts, g.constant(0.0, np.float32), mode="constant")
    with g.module("fsmn"):
        kernel = g.random_weight("weight", (c.width, 1, c.taps), 0.3)
        filtered = g.op(
            "Conv", padded, kernel, group=c.width, kernel_shape=[c.taps], pads=[0, 0], strides=[1]
        )
    memory = g.op("Add", g.op("Transpose", filtered, perm=[0, 2, 1]), value)
    attended = attend(g, query, key, value, c.heads, c.head_width)
    return g.op("Add", linear(g, attended, "out", c.width, c.width), memory)


@dataclass(frozen=True)
class DecoderWeights:
    """Names of one decoder layer's values in the main graph; matrices (in, out), behind Transposes."""

    norms: tuple[tuple[str, str], ...]
    matrices: dict[str, tuple[str, str]]


def decoder_weights(g: GraphBuilder, c: Config) -> DecoderWeights:
    """The weights of one decoder layer: stored and transposed in the main graph, read by the body."""
    shapes = dict.fromkeys(
        ("q", "k", "v", "out", "cross_q", "cross_k", "cross_v", "cross_out"), (c.width, c.width)
    )
    shapes |= {"up": (c.hidden, c.width), "down": (c.width, c.hidden)}
    norms, matrices = [], {}
    for i in range(3):
        with g.module(f"norm{i + 1}"):
            norms.append(norm_weights(g, c.width))
    for name, (width_out, width_in) in shapes.items():
        with g.module(name):
            weight = g.random_weight("weight", (width_out, width_in), (3 / width_in) ** 0.5)
            matrices[name] = transposed(g, weight), g.random_weight("bias", (width_out,), 0.1)
    return DecoderWeights(tuple(norms), matrices)


def decoder(g: GraphBuilder, memory: str, c: Config) -> tuple[str, str]:
    """Greedy search over the encoder's output: tokens (L), logits (L, vocabulary)."""
    embedding = g.random_weight("embed.weight", (c.vocabulary, c.width), 1.0)
    layers = []
    for i in range(c.decoder_layers):
        with g.module(f"layer{i}"):
            layers.append(decoder_weights(g, c))
    with g.module("norm"):
        norm = norm_weights(g, c.width)
    with g.module("classify"):
        weight = g.random_weight("weight", (c.vocabulary, c.width), 0.4)
        # END stands out, so that the loop ends by its condition for some inputs and by the limit for others.
        bias = uniform((c.vocabulary,), "classify.bias", -0.4, 0.4)
        bias[END] += 4.0
        classify = transposed(g, weight), g.weight("bias", bias)

    # All caches start from one and the same zero-length constant, as the exporter shares them.
    cache = g.constant(np.zeros((1, 0, c.width)), np.float32)
    start = [g.constant(0), g.constant([1]), *[cache] * (2 * c.decoder_layers)]
    start.append(g.constant(np.zeros((0, c.vocabulary)), np.float32))
    limit, run = g.constant(ONNX_INT64_MAX), g.constant(True, np.bool_)
    body = decoder_step(GraphBuilder(g), memory, embedding, layers, norm, classify, c)
    results = g.node("Loop", limit, run, *start, outputs=len(start), body=body)
    spoken = g.op(
        "Slice", results[1], g.constant([1]), g.constant([ONNX_INT64_MAX]), g.constant([0]), g.constant([1])
    )
    return spoken, results[-1]


def decoder_step(
    g: GraphBuilder,
    memory: str,
    embedding: str,
    layers: list[DecoderWeights],
    norm: tuple[str, str],
    classify: tuple[str, str],
    c: Config,
) -> onnx.GraphProto:
    """The body of the Loop. Declared shapes are those of the first step, as the exporter declares them."""
    g.input("iteration", TensorProto.INT64, [])
    g.input("run", TensorProto.BOOL, [])
    step = g.input("step", TensorProto.INT64, [])
    tokens = g.input("tokens.1", TensorProto.INT64, [1])
    caches = [
        g.input(f"{kind}{i}", TensorProto.FLOAT, [1, 0, c.width]) for i in range(len(layers)) for kind in "kv"
    ]
    logits = g.input("logits.1", TensorProto.FLOAT, [0, c.vocabulary])

    last = g.op(
        "Slice", tokens, g.constant([-1]), g.constant([ONNX_INT64_MAX]), g.constant([0]), g.constant([1])
    )
    x = g.op("Unsqueeze", g.op("Gather", embedding, last), g.constant([0]))
    x = g.op("Add", x, position_code(g, step, g.op("Add", step, g.constant(1)), c.width))
    grown = []
    for i, weights in enumerate(layers):
        with g.module(f"layer{i}"):
            x, key, value = decoder_layer(g, x, memory, weights, caches[2 * i], caches[2 * i + 1], c)
        grown += [key, value]
    y = squeezed(g, linear_with(g, layer_norm_with(g, x, *norm), *classify), c)
    token = g.op("ArgMax", y, axis=-1, keepdims=0)
    step_next = g.op("Add", step, g.constant(1))
    going = still_running(g, token, step_next, c)

    g.output(going, TensorProto.BOOL, [])
    g.output(step_next, TensorProto.INT64, [])
    g.output(g.op("Concat", tokens, token, axis=0), TensorProto.INT64, [2])
    for value in grown:
        g.output(value, TensorProto.FLOAT, [1, 1, c.width])
    g.output(g.op("Concat", logits, y, axis=0), TensorProto.FLOAT, [1, c.vocabulary])
    return g.graph("decoder_body")


def decoder_layer(
    g: GraphBuilder, x: str, memory: str, weights: DecoderWeights, keys: str, values: str, c: Config
) -> tuple[str, str, str]:
    """x (1, 1, width) and the caches (1, P, width) -> output and the caches of P + 1 steps."""
    m = weights.matrices
    cross_key = linear_with(g, memory, *m["cross_k"])
    cross_value = linear_with(g, memory, *m["cross_v"])
    y = layer_norm_with(g, x, *weights.norms[0])
    keys = g.op("Concat", keys, linear_with(g, y, *m["k"]), axis=1)
    values = g.op("Concat", values, linear_with(g, y, *m["v"]), axis=1)
    attended = attend(g, linear_with(g, y, *m["q"]), keys, values, c.heads, c.head_width)
    x = g.op("Add", x, linear_with(g, attended, *m["out"]))
    query = linear_with(g, layer_norm_with(g, x, *weights.norms[1]), *m["cross_q"])
    crossed = attend(g, query, cross_key, cross_value, c.heads, c.head_width)
    x = g.op("Add", x, linear_with(g, crossed, *m["cross_out"]))
    hidden = g.op("Relu", linear_with(g, layer_norm_with(g, x, *weights.norms[2]), *m["up"]))
    return g.op("Add", x, linear_with(g, hidden, *m["down"])), keys, values


def squeezed(g: GraphBuilder, y: str, c: Config) -> str:
    """y.squeeze(0): scripted code asks at run time whether the axis is 1."""
    is_one = g.op("Equal", g.constant(1), size(g, y, 0))
    then, other = GraphBuilder(g), GraphBuilder(g)
    then.output(then.op("Squeeze", y, g.constant([0])), TensorProto.FLOAT, [1, c.vocabulary])
    other.output(other.op("Identity", y), TensorProto.FLOAT, [1, 1, c.vocabulary])
    return g.op("If", is_one, then_branch=then.graph("squeeze_then"), else_branch=other.graph("squeeze_else"))


def still_running(g: GraphBuilder, token: str, step: str, c: Config) -> str:
    """token[0] != END and step < steps: a short-circuit `and` is an If."""
    first = g.op("Gather", token, g.constant(0), axis=0)
    more = g.op("Not", g.op("Equal", first, g.constant(END)))
    then, other = GraphBuilder(g), GraphBuilder(g)
    then.output(then.op("Less", step, then.constant(c.steps)), TensorProto.BOOL, [])
    other.output(other.op("Identity", more), TensorProto.BOOL, [])
    return g.op("If", more, then_branch=then.graph("and_then"), else_branch=other.graph("and_else"))


if __name__ == "__main__":
    save(build(), Path(sys.argv[1]))
