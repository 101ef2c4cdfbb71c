// Tiles of depthwise convolution: a few neighbouring positions of one row, all channels.
#pragma once
#include <utility>

#include "simd/vector.h"

namespace graphopt {

constexpr int kMostTapRows = 64;

// What a tile reads and writes. Tap rows outside the image are not in the list.
struct DepthwiseTile {
  const float* lines[kMostTapRows];    // the first tap of the first position, a pointer a tap row
  const float* weights[kMostTapRows];  // of that tap row: [taps of the row][padded channels]
  int64_t tap_rows;
  int64_t channels, padded;
  int64_t first, last;   // columns of the tile's window that are inside the image
  int64_t column, step;  // distance of neighbouring taps, of neighbouring positions
  const float* bias;     // padded
  float* y;
  int64_t y_step;
  const float* residual;
  int64_t residual_step;
  bool residual_last;
  float low, high;
};

template <int positions, bool tail>
GRAPHOPT_INLINE void add_depthwise_residual(const DepthwiseTile& d, vf (&acc)[positions], int64_t c, int rest) {
#pragma GCC unroll 8
  for (int i = 0; i < positions; ++i) {
    const float* from = d.residual + i * d.residual_step + c;
    acc[i] += tail ? load_first(from, rest) : load(from);
  }
}

template <int positions, bool tail>
GRAPHOPT_INLINE void end_depthwise(const DepthwiseTile& d, vf (&acc)[positions], int64_t c, int rest) {
  const vf low = broadcast(d.low), high = broadcast(d.high);
  if (d.residual != nullptr && !d.residual_last) add_depthwise_residual<positions, tail>(d, acc, c, rest);
#pragma GCC unroll 8
  for (int i = 0; i < positions; ++i) acc[i] = min(high, max(low, acc[i]));  // a NaN stays
  if (d.residual != nullptr && d.residual_last) add_depthwise_residual<positions, tail>(d, acc, c, rest);
#pragma GCC unroll 8
  for (int i = 0; i < positions; ++i) {
    if (tail) store_first(d.y + i * d.y_step + c, acc[i], rest);
    else store(d.y + i * d.y_step + c, acc[i]);
  }
}

// One vector of channels of `positions` positions. `taps` and `stride` are known: each input is loaded once a tap row.
// `edge`: columns outside [first, last) are zeros, and only the first `rest` channels are there.
template <int taps, int stride, int positions, bool edge>
GRAPHOPT_INLINE void depthwise_channels(const DepthwiseTile& d, int64_t c, int rest) {
  constexpr int loads = (positions - 1) * stride + taps;
  vf acc[positions];
  const vf bias = load(d.bias + c);
#pragma GCC unroll 8
  for (int i = 0; i < positions; ++i) acc[i] = bias;
  for (int64_t row = 0; row < d.tap_rows; ++row) {
    const float* line = d.lines[row] + c;
    const float* weights = d.weights[row] + c;
    vf x[loads];
#pragma GCC unroll 24
    for (int i = 0; i < loads; ++i) {
      if (edge) x[i] = i >= d.first && i < d.last ? load_first(line + i * d.column, rest) : vf{};
      else x[i] = load(line + i * d.column);
    }
#pragma GCC unroll 8
    for (int k = 0; k < taps; ++k) {
      const vf w = load(weights + k * d.padded);
#pragma GCC unroll 8
      for (int i = 0; i < positions; ++i) acc[i] += w * x[i * stride + k];
    }
  }
  end_depthwise<positions, edge>(d, acc, c, rest);
}

using DepthwiseRun = void (*)(const DepthwiseTile&, int64_t taps);

template <int taps, int stride, int positions> __attribute__((noinline)) void depthwise_tile(const DepthwiseTile& d, int64_t) {
  int64_t c = 0;
  if (d.first == 0 && d.last >= (positions - 1) * stride + taps)
    for (; c + kLanes <= d.channels; c += kLanes) depthwise_channels<taps, stride, positions, false>(d, c, kLanes);
  for (; c < d.channels; c += kLanes) {
    const int64_t left = d.channels - c;
    depthwise_channels<taps, stride, positions, true>(d, c, static_cast<int>(left < kLanes ? left : kLanes));
  }
}

#if defined(__AVX512F__)
constexpr int kMostPositions = 8;
#else
constexpr int kMostPositions = 4;
#endif

struct DepthwiseTiles {
  DepthwiseRun of[kMostPositions];  // [positions - 1]
};
template <int taps, int stride, int... i>
constexpr DepthwiseTiles make_depthwise_tiles(std::integer_sequence<int, i...>) {
  return {{&depthwise_tile<taps, stride, i + 1>...}};
}
template <int taps, int stride>
inline constexpr DepthwiseTiles kDepthwiseTiles =
    make_depthwise_tiles<taps, stride>(std::make_integer_sequence<int, kMostPositions>{});

// Any number of taps and any distance; also single positions at the border.
template <int positions, bool tail>
GRAPHOPT_INLINE void depthwise_any_channels(const DepthwiseTile& d, int64_t taps, int64_t c, int rest) {
  vf acc[positions];
  const vf bias = load(d.bias + c);
#pragma GCC unroll 8
  for (int i = 0; i < positions; ++i) acc[i] = bias;
  for (int64_t row = 0; row < d.tap_rows; ++row) {
    const float* line = d.lines[row] + c;
    const float* weights = d.weights[row] + c;
    for (int64_t k = 0; k < taps; ++k, line += d.column, weights += d.padded) {
      const vf w = load(weights);
#pragma GCC unroll 8
      for (int i = 0; i < positions; ++i)
        acc[i] += w * (tail ? load_first(line + i * d.step, rest) : load(line + i * d.step));
    }
  }
  end_depthwise<positions, tail>(d, acc, c, rest);
}

template <int positions> __attribute__((noinline)) void depthwise_any(const DepthwiseTile& d, int64_t taps) {
  int64_t c = 0;
  for (; c + kLanes <= d.channels; c += kLanes) depthwise_any_channels<positions, false>(d, taps, c, kLanes);
  if (c < d.channels) depthwise_any_channels<positions, true>(d, taps, c, static_cast<int>(d.channels - c));
}

}  // namespace graphopt
