// Register tiles of attention: products of small matrices, transposes, sums of many vectors at once.
#pragma once
#include "simd/half.h"

namespace graphopt {

#if defined(__AVX512F__)
constexpr int kTileRows = 12;
#elif defined(__AVX2__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 4;
#endif

// The lower and the upper half of a0 b0 a1 b1 ...
GRAPHOPT_INLINE vf zip_low(vf a, vf b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
GRAPHOPT_INLINE vf zip_high(vf a, vf b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

// Rows become columns: each round of zips turns the number (row, column) of an element by one bit.
GRAPHOPT_INLINE void transpose(vf (&rows)[kLanes]) {
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
    vf next[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = zip_low(rows[i], rows[i + kLanes / 2]);
      next[2 * i + 1] = zip_high(rows[i], rows[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

// Lane i is the sum of the lanes of v[i].
GRAPHOPT_INLINE vf sums_of(vf (&v)[kLanes]) {
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) v[i] = zip_low(v[i], v[i + half]) + zip_high(v[i], v[i + half]);
  return v[0];
}

// C (m rows of nv vectors) = [C +] A B, where B has `depth` rows of nv vectors, the last of which has `tail` lanes that count.
// Element (i, k) of A is a[i * a_step + k], or a[k * a_step + i] if kAcross.
template <int m, int nv, bool kAcross, bool kTail>
__attribute__((noinline)) void tile(int64_t depth, const float* a, int64_t a_step, const float* b, int64_t b_step,
                                    float* c, int64_t c_step, bool adds, int tail) {
  vf sum[m][nv];
#pragma GCC unroll 16
  for (int i = 0; i < m; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < nv; ++j) sum[i][j] = adds ? load(c + i * c_step + j * kLanes) : vf{};
  for (int64_t k = 0; k < depth; ++k, b += b_step) {
    vf right[nv];
#pragma GCC unroll 2
    for (int j = 0; j < nv; ++j)
      right[j] = kTail && j == nv - 1 ? load_first(b + j * kLanes, tail) : load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < m; ++i) {
      const vf left = broadcast(kAcross ? a[k * a_step + i] : a[i * a_step + k]);
#pragma GCC unroll 2
      for (int j = 0; j < nv; ++j) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < m; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < nv; ++j) store(c + i * c_step + j * kLanes, sum[i][j]);
}

template <int m, int nv, bool kAcross, bool kTail>
inline void tile_of(int rows, int64_t depth, const float* a, int64_t a_step, const float* b, int64_t b_step, float* c,
                    int64_t c_step, bool adds, int tail) {
  if constexpr (m > 0) {
    if (rows == m) tile<m, nv, kAcross, kTail>(depth, a, a_step, b, b_step, c, c_step, adds, tail);
    else tile_of<m - 1, nv, kAcross, kTail>(rows, depth, a, a_step, b, b_step, c, c_step, adds, tail);
  }
}

// The same for any number of rows, split evenly.
template <int nv, bool kAcross, bool kTail>
inline void tiles(int64_t rows, int64_t depth, const float* a, int64_t a_step, const float* b, int64_t b_step, float* c,
                  int64_t c_step, bool adds, int tail) {
  const int64_t count = (rows + kTileRows - 1) / kTileRows;
  for (int64_t t = 0, i = 0; t < count; ++t) {
    const int64_t m = (rows - i + count - t - 1) / (count - t);
    tile_of<kTileRows, nv, kAcross, kTail>(static_cast<int>(m), depth, a + (kAcross ? i : i * a_step), a_step, b, b_step,
                                           c + i * c_step, c_step, adds, tail);
    i += m;
  }
}

}  // namespace graphopt
