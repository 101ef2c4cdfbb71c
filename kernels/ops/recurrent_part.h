// One direction of a recurrent cell over some rows of the batch.
#pragma once
#include "ops/conv_tile.h"
#include "ops/float_types.h"
#include "ops/recurrent.h"

namespace graphopt {

// Inputs and outputs by number.
enum RecurrentInput { kInX = 0, kInW, kInR, kInBias, kInLengths, kInH, kInC, kInPeepholes, kRecurrentInputs };

template <class T> struct RecurrentPart {
  using V = Compute<T>;
  const RecurrentParams& p;
  const Instr& instr;
  int direction;
  bool backwards;
  int64_t row, rows;
  // [chunk][rows][gates][padded], three of [rows][padded], [gates][padded], [padded], [padded]
  V *projected, *h, *c, *scratch, *bias, *state_bias, *zeros;

  static int64_t floats(const RecurrentParams& p) {
    return (p.chunk * p.rows + 1) * p.gates * p.padded + (3 * p.rows + 2) * p.padded + p.padded + kConvPanel;
  }

  void place(V* memory) {
    const int64_t wide = p.gates * p.padded;
    projected = memory, memory += p.chunk * p.rows * wide;
    bias = memory, memory += wide;
    h = memory, memory += p.rows * p.padded;
    c = memory, memory += p.rows * p.padded;
    scratch = memory, memory += p.rows * p.padded;
    state_bias = memory, memory += p.padded;
    zeros = memory;  // padded, at least a panel
  }

  int64_t length(int64_t b) const {
    const Tensor* lengths = instr.in[kInLengths];
    return lengths == nullptr ? p.steps : lengths->as<int32_t>()[(row + b) * lengths->strides[0]];
  }
  int64_t time(int64_t b, int64_t step) const { return backwards ? length(b) - 1 - step : step; }
  int64_t state_offset(const Tensor& t, int64_t b) const {
    const int64_t d = direction, n = row + b;
    return p.batch_first ? n * t.strides[0] + d * t.strides[1] : d * t.strides[0] + n * t.strides[1];
  }

  void load_state(const Tensor* from, V* to) const {
    for (int64_t i = 0; i < rows * p.padded; ++i) to[i] = 0;
    if (from == nullptr) return;
    for (int64_t b = 0; b < rows; ++b)
      for (int64_t j = 0; j < p.hidden; ++j)
        to[b * p.padded + j] = value_of(from->as<T>()[state_offset(*from, b) + j * from->strides[2]]);
  }
  void store_state(const Tensor* to, const V* from) const {
    if (to == nullptr) return;
    for (int64_t b = 0; b < rows; ++b)
      for (int64_t j = 0; j < p.hidden; ++j)
        to->as<T>()[state_offset(*to, b) + j * to->strides[2]] = element_of<T>(from[b * p.padded + j]);
  }

  // A GRU's last gate may multiply the state's part, its bias included, by the reset gate.
  bool is_apart(int gate) const { return p.cell == Cell::kGru && gate == 2; }

  void load_bias() const {
    for (int64_t i = 0; i < p.gates * p.padded; ++i) bias[i] = 0;
    for (int64_t i = 0; i < p.padded; ++i) state_bias[i] = zeros[i] = 0;
    for (int64_t i = 0; i < kConvPanel; ++i) zeros[i] = 0;
    const Tensor* b = instr.in[kInBias];
    if (b == nullptr) return;
    const T* of = b->as<T>() + direction * b->strides[0];
    for (int g = 0; g < p.gates; ++g)
      for (int64_t j = 0; j < p.hidden; ++j) {
        const V of_state = value_of(of[((p.gates + g) * p.hidden + j) * b->strides[1]]);
        bias[g * p.padded + j] = value_of(of[(g * p.hidden + j) * b->strides[1]]);
        if (is_apart(g) && p.linear_before_reset) state_bias[j] = of_state;
        else bias[g * p.padded + j] += of_state;
      }
  }

  // to[i][hidden] = from[i][depth] x weights of a gate + bias + to[i] (if `adds`), for n rows.
  void multiply(int weights, int gate, const T* x, const V* state, int64_t depth, int64_t x_step, int64_t n, V* to,
                int64_t to_step, const V* added_bias, bool adds) const {
    if constexpr (sizeof(V) == 4) {
      const auto* a = x != nullptr ? reinterpret_cast<const float*>(x) : state;
      if (p.is_packed) return multiply_packed(weights, gate, a, depth, x_step, n, to, to_step, added_bias, adds);
    }
    const Tensor& w = *instr.in[weights];
    const T* of = w.as<T>() + direction * w.strides[0] + gate * p.hidden * w.strides[1];
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < p.hidden; ++j) {
        V sum = added_bias[j] + (adds ? to[i * to_step + j] : V(0));
        for (int64_t k = 0; k < depth; ++k)
          sum += (x != nullptr ? value_of(x[i * x_step + k]) : state[i * x_step + k]) * value_of(of[j * w.strides[1] + k * w.strides[2]]);
        to[i * to_step + j] = sum;
      }
  }

  void multiply_packed(int weights, int gate, const float* a, int64_t depth, int64_t a_step, int64_t n, float* to, int64_t to_step,
                       const float* added_bias, bool adds) const {
    const int64_t zero = 0;
    const ConvSegments segments{&zero, 1, depth, a_step};
    const float* w = instr.in[weights]->as<float>() + (direction * p.gates + gate) * depth * p.padded;
    constexpr float kInfinity = __builtin_inff();
    for (int64_t first = 0; first < p.padded; first += kConvPanel) {
      const int vectors = p.padded - first < kConvPanel ? 1 : 2;
      int64_t tiles = (n + kConvRows - 1) / kConvRows;
      for (int64_t i = 0; tiles > 0; --tiles) {
        const int tile = static_cast<int>((n - i + tiles - 1) / tiles);
        float* c0 = to + i * to_step + first;
        const ConvTileEnd end{added_bias + first, adds ? c0 : nullptr, to_step, false, -kInfinity, kInfinity, kLanes};
        kConvTiles.of[vectors - 1][tile - 1](segments, a + i * a_step, w + first * depth, i == 0, c0, to_step, end);
        i += tile;
      }
    }
  }
};

}  // namespace graphopt
