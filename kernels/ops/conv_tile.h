// The register tile of dense convolutions: `rows` output positions times one column panel of filters.
//
// In channels-last memory the window of a position is a few runs ("segments") of contiguous floats, and the window of
// the next position begins a fixed distance later. So rows of A overlap, nothing is unfolded, and depth is walked
// segment by segment. 12 x 32 (AVX-512) or 6 x 16 (AVX2) accumulators; one vector of columns where the rest has no more.
#pragma once
#include <utility>

#include "ops/gemm_tile.h"

namespace graphopt {

#if defined(__AVX512F__)
constexpr int kConvRows = 12;
#else
constexpr int kConvRows = 6;
#endif
constexpr int kConvPanel = 2 * kLanes;

struct ConvSegments {
  const int64_t* offsets;  // of the runs, from the row's first float
  int64_t count, length;
  int64_t row_stride;
};

struct ConvTileEnd {
  const float* bias;      // padded to whole vectors
  const float* residual;  // may be null
  int64_t residual_stride;
  bool residual_last;
  float low, high;
  int last;  // columns of the last vector, 1 to kLanes
};

template <int rows, int vectors>
GRAPHOPT_INLINE void add_conv_residual(vf (&acc)[rows][vectors], const ConvTileEnd& end) {
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    const float* r = end.residual + i * end.residual_stride;
    if constexpr (vectors == 2) acc[i][0] += load(r);
    r += (vectors - 1) * kLanes;
    acc[i][vectors - 1] += end.last == kLanes ? load(r) : load_first(r, end.last);
  }
}

template <int rows, int vectors>
GRAPHOPT_INLINE void end_conv_tile(vf (&acc)[rows][vectors], float* c, int64_t c_stride, const ConvTileEnd& end) {
  if (end.residual != nullptr && !end.residual_last) add_conv_residual<rows, vectors>(acc, end);
  const vf low = broadcast(end.low), high = broadcast(end.high);
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) acc[i][j] = min(high, max(low, acc[i][j]));  // a NaN stays
  if (end.residual != nullptr && end.residual_last) add_conv_residual<rows, vectors>(acc, end);
  if (end.last == kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) store(c + i * c_stride + j * kLanes, acc[i][j]);
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    if constexpr (vectors == 2) store(c + i * c_stride, acc[i][0]);
    store_first(c + i * c_stride + (vectors - 1) * kLanes, acc[i][vectors - 1], end.last);
  }
}

// `streams`: the tile is the first to read these weights, as gemm_tile.h has it.
using ConvTile = void (*)(const ConvSegments& s, const float* a, const float* w, bool streams, float* c, int64_t c_stride,
                          const ConvTileEnd& end);

template <int rows, int vectors>
__attribute__((noinline)) void conv_tile(const ConvSegments& s, const float* a, const float* w, bool streams, float* c,
                                         int64_t c_stride, const ConvTileEnd& end) {
  // Few rows need several chains to hide the latency of the multiply-adds.
  constexpr int chains = rows * vectors <= 2 ? 4 : rows * vectors <= 4 ? 2 : 1;
  vf acc[chains][rows][vectors] = {};
#pragma GCC unroll 2
  for (int j = 0; j < vectors; ++j) {
    const vf bias = load(end.bias + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) acc[0][i][j] = bias;
  }
  const int64_t row = s.row_stride;
  const auto step = [&](vf(&into)[rows][vectors], const float* p) __attribute__((always_inline)) {
    vf b[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j, w += kLanes) b[j] = load(w);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const vf x = broadcast(p[i * row]);
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) into[i][j] += x * b[j];
    }
  };
  for (int64_t segment = 0; segment < s.count; ++segment) {
    const float* p = a + s.offsets[segment];
    int64_t k = 0;
    if (chains == 1 && rows > kFewRows && streams)
      for (; k < s.length; ++k) {
        const char* at = reinterpret_cast<const char*>(w);
        ask_ahead<vectors * kVectorBytes>(at + kNearBytes, at + kFarBytes);
        step(acc[0], p + k);
      }
    for (; k + chains <= s.length; k += chains)
#pragma GCC unroll 4
      for (int chain = 0; chain < chains; ++chain) step(acc[chain], p + k + chain);
    for (; k < s.length; ++k) step(acc[0], p + k);
  }
  join_chains(acc);
  end_conv_tile<rows, vectors>(acc[0], c, c_stride, end);
}

struct ConvTiles {
  ConvTile of[2][kConvRows];  // [vectors - 1][rows - 1]
};
template <int... row> constexpr ConvTiles make_conv_tiles(std::integer_sequence<int, row...>) {
  return {{{&conv_tile<row + 1, 1>...}, {&conv_tile<row + 1, 2>...}}};
}
inline constexpr ConvTiles kConvTiles = make_conv_tiles(std::make_integer_sequence<int, kConvRows>{});

// Panels of `columns` filters: pairs of vectors, then a single one where that holds the rest.
inline int64_t conv_panels(int64_t columns) { return (columns + kConvPanel - 1) / kConvPanel; }
inline int64_t conv_padded(int64_t columns) { return (columns + kLanes - 1) / kLanes * kLanes; }

}  // namespace graphopt
