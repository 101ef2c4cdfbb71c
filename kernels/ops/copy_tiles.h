// Moves of a two-dimensional piece, one for each kind of innermost strides.
#pragma once
#include <string>
#include <utility>

#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "simd/vector.h"

namespace graphopt {

// Elements at any address: joined runs need not be aligned to their size.
template <class E> struct Cell {
  typedef E type __attribute__((aligned(1), may_alias));
};
template <class E> GRAPHOPT_INLINE E cell(const char* p) { return *reinterpret_cast<const typename Cell<E>::type*>(p); }
template <class E> GRAPHOPT_INLINE void set_cell(char* p, E x) { *reinterpret_cast<typename Cell<E>::type*>(p) = x; }
template <> inline __attribute__((always_inline)) Bytes16 cell<Bytes16>(const char* p) {
  Bytes16 x;
  std::memcpy(&x, p, 16);
  return x;
}
template <> inline __attribute__((always_inline)) void set_cell<Bytes16>(char* p, Bytes16 x) { std::memcpy(p, &x, 16); }

// n bytes, 16 < n; whole vectors and one that ends with the row.
GRAPHOPT_INLINE void copy_vectors(const char* in, char* out, int64_t n) {
  if (n < kVectorBytes) {
    std::memcpy(out, in, 16);
    if (n > 32) std::memcpy(out + 16, in + 16, 16);
    if (n > 48) std::memcpy(out + 32, in + 32, 16);
    std::memcpy(out + n - 16, in + n - 16, 16);
    return;
  }
  int64_t i = 0;
  for (; i + kVectorBytes <= n; i += kVectorBytes) store_bits(out + i, load_bits(in + i));
  if (i < n) store_bits(out + n - kVectorBytes, load_bits(in + n - kVectorBytes));
}

// Fewer than 16 bytes.
GRAPHOPT_INLINE void copy_short(const char* in, char* out, int64_t n) {
  if (n >= 8) {
    const uint64_t first = cell<uint64_t>(in), last = cell<uint64_t>(in + n - 8);
    set_cell(out, first);
    set_cell(out + n - 8, last);
  } else if (n >= 4) {
    const uint32_t first = cell<uint32_t>(in), last = cell<uint32_t>(in + n - 4);
    set_cell(out, first);
    set_cell(out + n - 4, last);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = in[i];
  }
}

// b contiguous in both, strides of 1.
inline void copy_rows(const char* in, char* out, const CopyAxis& a, const CopyAxis& b) {
  const int64_t n = b.n;
  if (n <= 16) {
    for (int64_t i = 0; i < a.n; ++i, in += a.from, out += a.to) copy_short(in, out, n);
  } else if (n < 2048) {
    for (int64_t i = 0; i < a.n; ++i, in += a.from, out += a.to) copy_vectors(in, out, n);
  } else {
    for (int64_t i = 0; i < a.n; ++i, in += a.from, out += a.to) std::memcpy(out, in, static_cast<size_t>(n));
  }
}

template <class E> void copy_fill(const char* in, char* out, const CopyAxis& a, const CopyAxis& b) {
  for (int64_t j = 0; j < b.n; ++j, in += b.from, out += b.to) {
    const E x = cell<E>(in);
    for (int64_t i = 0; i < a.n; ++i) set_cell<E>(out + i * static_cast<int64_t>(sizeof(E)), x);
  }
}

// Constant strides, so that the compiler can shuffle vectors. `kFrom`, `kTo` of 0: as the axis says.
template <class E, int kFrom, int kTo> void copy_line(const char* in, char* out, int64_t n, int64_t from, int64_t to) {
  constexpr int64_t size = sizeof(E);
  if (kFrom != 0) from = kFrom * size;
  if (kTo != 0) to = kTo * size;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) set_cell<E>(out + i * to, cell<E>(in + i * from));
}

template <class E> void copy_strided(const char* in, char* out, const CopyAxis& a, const CopyAxis& b) {
  constexpr int64_t size = sizeof(E), kBlock = 32;
  if (a.to == size && (a.from == -size || a.from == 2 * size)) {
    auto line = a.from == -size ? copy_line<E, -1, 1> : copy_line<E, 2, 1>;
    for (int64_t j = 0; j < b.n; ++j) line(in + j * b.from, out + j * b.to, a.n, 0, 0);
    return;
  }
  if (a.from == size && a.to == 2 * size) {
    for (int64_t j = 0; j < b.n; ++j) copy_line<E, 1, 2>(in + j * b.from, out + j * b.to, a.n, 0, 0);
    return;
  }
  for (int64_t i0 = 0; i0 < a.n; i0 += kBlock) {
    const int64_t i1 = i0 + kBlock < a.n ? i0 + kBlock : a.n;
    for (int64_t j = 0; j < b.n; ++j) {
      const char* source = in + j * b.from;
      char* target = out + j * b.to;
      for (int64_t i = i0; i < i1; ++i) set_cell<E>(target + i * a.to, cell<E>(source + i * a.from));
    }
  }
}

inline void copy_strings(const char* in, char* out, const CopyAxis& a, const CopyAxis& b) {
  for (int64_t j = 0; j < b.n; ++j)
    for (int64_t i = 0; i < a.n; ++i)
      *reinterpret_cast<std::string*>(out + i * a.to + j * b.to) =
          *reinterpret_cast<const std::string*>(in + i * a.from + j * b.from);
}

// An N x N tile in N vectors: log2(N) rounds that interleave the first half of the rows with the second.
template <class E, int N> struct Tile {
  typedef E vector __attribute__((vector_size(N * sizeof(E))));
  typedef E loose __attribute__((vector_size(N * sizeof(E)), aligned(1), may_alias));

  template <size_t... I> GRAPHOPT_INLINE void round(const vector* v, vector* w, std::index_sequence<I...>) {
    for (int i = 0; i < N / 2; ++i) {
      w[2 * i] = __builtin_shufflevector(v[i], v[i + N / 2], (I % 2 * N + I / 2)...);
      w[2 * i + 1] = __builtin_shufflevector(v[i], v[i + N / 2], (I % 2 * N + I / 2 + N / 2)...);
    }
  }
  GRAPHOPT_INLINE void transpose(const char* in, int64_t from, char* out, int64_t to) {
    vector v[N], w[N];
    for (int i = 0; i < N; ++i) v[i] = *reinterpret_cast<const loose*>(in + i * from);
    constexpr auto lanes = std::make_index_sequence<N>();
    round(v, w, lanes);
    if constexpr (N == 2) {
      for (int i = 0; i < N; ++i) *reinterpret_cast<loose*>(out + i * to) = w[i];
      return;
    } else {
      round(w, v, lanes);
      if constexpr (N >= 8) round(v, w, lanes);
      if constexpr (N >= 16) round(w, v, lanes);
    }
    for (int i = 0; i < N; ++i) *reinterpret_cast<loose*>(out + i * to) = N == 8 ? w[i] : v[i];
  }
};

#if defined(__AVX512F__)
constexpr int kTileOf2 = 16, kTileOf4 = 16, kTileOf8 = 8;
#elif defined(__AVX2__)
constexpr int kTileOf2 = 8, kTileOf4 = 8, kTileOf8 = 4;
#else
constexpr int kTileOf2 = 8, kTileOf4 = 4, kTileOf8 = 2;
#endif

// Rows of the input [i0, i1) and columns [j0, j1), at least N of each: tiles, the last ones overlapping.
template <class E, int N>
void transpose_block(const char* in, char* out, const CopyAxis& a, const CopyAxis& b, int64_t i0, int64_t i1, int64_t j0,
                     int64_t j1) {
  for (int64_t j = j0; j < j1; j += N) {
    const int64_t column = j + N <= j1 ? j : j1 - N;
    for (int64_t i = i0; i < i1; i += N) {
      const int64_t row = i + N <= i1 ? i : i1 - N;
      Tile<E, N>::transpose(in + row * a.from + column * b.from, a.from, out + row * a.to + column * b.to, b.to);
    }
  }
}

// K lines of the input become tuples of the output (images to channels-last), and the inverse.
template <class E, int K> void interleave(const char* in, char* out, int64_t line, int64_t n) {
  auto* __restrict target = reinterpret_cast<typename Cell<E>::type*>(out);
  const typename Cell<E>::type* __restrict source[K];
  for (int k = 0; k < K; ++k) source[k] = reinterpret_cast<const typename Cell<E>::type*>(in + k * line);
  for (int64_t i = 0; i < n; ++i)
    for (int k = 0; k < K; ++k) target[i * K + k] = source[k][i];
}
template <class E, int K> void separate(const char* in, char* out, int64_t line, int64_t n) {
  const auto* __restrict source = reinterpret_cast<const typename Cell<E>::type*>(in);
  typename Cell<E>::type* __restrict target[K];
  for (int k = 0; k < K; ++k) target[k] = reinterpret_cast<typename Cell<E>::type*>(out + k * line);
  for (int64_t i = 0; i < n; ++i)
    for (int k = 0; k < K; ++k) target[k][i] = source[i * K + k];
}
template <class E> bool copy_tuples(const char* in, char* out, const CopyAxis& a, const CopyAxis& b) {
  constexpr int64_t size = sizeof(E);
  if (a.n >= 2 && a.n <= 4 && b.to == a.n * size) {
    const auto f = a.n == 2 ? interleave<E, 2> : a.n == 3 ? interleave<E, 3> : interleave<E, 4>;
    f(in, out, a.from, b.n);
    return true;
  }
  if (b.n >= 2 && b.n <= 4 && a.from == b.n * size) {
    const auto f = b.n == 2 ? separate<E, 2> : b.n == 3 ? separate<E, 3> : separate<E, 4>;
    f(in, out, b.to, a.n);
    return true;
  }
  return false;
}

// a contiguous in the output, b in the input.
template <class E, int N> void copy_transposed(const char* in, char* out, const CopyAxis& a, const CopyAxis& b) {
  if (a.n < N || b.n < N) {
    if (copy_tuples<E>(in, out, a, b)) return;
    // The longer one inside.
    if (a.n < b.n) copy_strided<E>(in, out, b, a);
    else copy_strided<E>(in, out, a, b);
    return;
  }
  constexpr int64_t kBlock = 64;
  // A last block that is too small for a tile joins the one before it.
  const auto end_of = [](int64_t begin, int64_t n) { return n - begin < kBlock + N ? n : begin + kBlock; };
  for (int64_t j0 = 0, j1; j0 < b.n; j0 = j1) {
    j1 = end_of(j0, b.n);
    for (int64_t i0 = 0, i1; i0 < a.n; i0 = i1) {
      i1 = end_of(i0, a.n);
      transpose_block<E, N>(in, out, a, b, i0, i1, j0, j1);
    }
  }
}

}  // namespace graphopt
