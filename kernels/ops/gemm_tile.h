// Register tiles of the float matrix product: rows of A times one column panel of B.
//
// A panel is [depth][columns] with 1 or 2 vectors of columns; A is read in place, one value broadcast a row.
// Loop order within a tile: depth, then rows x vectors in registers. 12 x 32 (AVX-512) and 6 x 16 (AVX2) tiles keep
// 24 and 12 accumulators: 97 % of a core's peak while the panel comes from L2. Few rows take several chains over
// depth, which hides the latency of the multiply-adds; they are bound by the bytes of the panel.
#pragma once
#include <utility>

#include "simd/half.h"
#include "simd/vector.h"

namespace graphopt {

#if defined(__AVX512F__)
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kPanelVectors = 2;
constexpr int kPanel = kPanelVectors * kLanes;

// From an accumulator to a result: acc * scale + bias, then the residual and the clip in either order.
// Scale, bias and residual are read for all columns of the tile.
struct TileEnd {
  const float* scale;
  const float* bias;
  const float* residual;  // may be null
  int64_t residual_stride;
  bool residual_last;  // after the clip
  bool clips;
  float low, high;
};

GRAPHOPT_INLINE vf load_weights(const float* p) { return load(p); }
GRAPHOPT_INLINE vf load_weights(const f16* p) { return load(p); }
GRAPHOPT_INLINE vf load_weights(const bf16* p) { return load(p); }
GRAPHOPT_INLINE vf load_weights(const int8_t* p) {
#if defined(__AVX512F__)
  return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  vf v;
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(p[i]);
  return v;
#endif
}

template <int rows, int vectors>
GRAPHOPT_INLINE void end_tile(vf (&acc)[rows][vectors], float* c, int64_t c_stride, const TileEnd& end) {
#pragma GCC unroll 2
  for (int j = 0; j < vectors; ++j) {
    const vf scale = load(end.scale + j * kLanes), bias = load(end.bias + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) acc[i][j] = acc[i][j] * scale + bias;
  }
  if (end.residual != nullptr && !end.residual_last) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) acc[i][j] += load(end.residual + i * end.residual_stride + j * kLanes);
  }
  if (end.clips) {
    const vf low = broadcast(end.low), high = broadcast(end.high);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) acc[i][j] = min(high, max(low, acc[i][j]));  // a NaN stays
  }
  if (end.residual != nullptr && end.residual_last) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) acc[i][j] += load(end.residual + i * end.residual_stride + j * kLanes);
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) store(c + i * c_stride + j * kLanes, acc[i][j]);
}

// `streams`: the tile is the first to read its weights, and asks for them before it needs them. Those after it find them
// in L2, where asking costs 4 %.
template <class Weight>
using Tile = void (*)(int64_t depth, const float* a, int64_t a_stride, const Weight* w, int64_t w_stride, bool streams,
                      float* c, int64_t c_stride, const TileEnd& end);

// How far ahead weights are asked for: into L1, and into L2, which hides the latency of memory.
constexpr int64_t kNearBytes = 2048, kFarBytes = 65536;
// Up to so many rows the processor's own prefetching brings more: 90 GB/s of L3 instead of 74.
constexpr int kFewRows = 3;

// Asks for a step's weights, `bytes` of them at each of two places.
template <int64_t bytes>
GRAPHOPT_INLINE void ask_ahead(const char* near, const char* far) {
#pragma GCC unroll 4
  for (int64_t byte = 0; byte < bytes; byte += 64) {
    __builtin_prefetch(near + byte);
    __builtin_prefetch(far + byte, 0, 2);
  }
}

// Adds the sums of all chains to those of the first.
template <int chains, int rows, int vectors, class Vector>
GRAPHOPT_INLINE void join_chains(Vector (&acc)[chains][rows][vectors]) {
#pragma GCC unroll 4
  for (int chain = 1; chain < chains; ++chain)
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) acc[0][i][j] += acc[chain][i][j];
}

template <int rows, int vectors, class Weight>
__attribute__((noinline)) void tile(int64_t depth, const float* a, int64_t a_stride, const Weight* w, int64_t w_stride,
                                    bool streams, float* c, int64_t c_stride, const TileEnd& end) {
  constexpr int chains = rows == 1 ? 4 : rows <= kFewRows ? 2 : 1;
  constexpr int64_t kRowBytes = vectors * kLanes * sizeof(Weight);
  vf acc[chains][rows][vectors] = {};
  const auto step = [&](vf(&into)[rows][vectors], int64_t k) __attribute__((always_inline)) {
    vf b[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) b[j] = load_weights(w + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const vf x = broadcast(a[i * a_stride + k]);
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) into[i][j] += x * b[j];
    }
    w += w_stride;
  };
  int64_t k = 0;
  if (rows > kFewRows && streams) {
    const char* near = reinterpret_cast<const char*>(w + kNearBytes / kRowBytes * w_stride);
    // Where B is read in place, what follows its rows isn't the next panel.
    const char* far = w_stride == vectors * kLanes ? reinterpret_cast<const char*>(w) + kFarBytes : near;
    const int64_t row = w_stride * static_cast<int64_t>(sizeof(Weight));
    for (; k < depth; ++k, near += row, far += row) {
      ask_ahead<kRowBytes>(near, far);
      step(acc[0], k);
    }
  }
  for (; k + chains <= depth; k += chains)
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; ++chain) step(acc[chain], k + chain);
  for (; k < depth; ++k) step(acc[0], k);
  join_chains(acc);
  end_tile<rows, vectors>(acc[0], c, c_stride, end);
}

template <class Weight>
struct Tiles {
  Tile<Weight> of[kPanelVectors][kTileRows];  // [vectors - 1][rows - 1]
};

template <class Weight, int... row>
constexpr Tiles<Weight> make_tiles(std::integer_sequence<int, row...>) {
  return {{{&tile<row + 1, 1, Weight>...}, {&tile<row + 1, 2, Weight>...}}};
}

template <class Weight>
inline constexpr Tiles<Weight> kTiles = make_tiles<Weight>(std::make_integer_sequence<int, kTileRows>{});

// Splits rows evenly over tiles, so that none is left with one row: calls f(first row, rows of the tile).
template <class F>
GRAPHOPT_INLINE void for_row_tiles(int64_t rows, const F& f) {
  int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t done = 0; tiles > 0; --tiles) {
    const int64_t size = (rows - done + tiles - 1) / tiles;
    f(done, static_cast<int>(size));
    done += size;
  }
}

}  // namespace graphopt
