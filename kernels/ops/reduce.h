// Reductions: sums, products, extremes and what is made of them, over any dims of any strides.
//
// Rows: the innermost reduced dim has stride 1; four vectors of partial results, joined in blocks in double precision.
// Columns: the innermost kept dim has stride 1; up to four vectors of neighbouring results go down the reduced dims
// together, joined in blocks of 64. Otherwise element by element.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/norm_rows.h"
#include "simd/math.h"

namespace graphopt {

enum class Reduction { kSum, kMean, kMax, kMin, kProd, kL1, kL2, kLogSum, kLogSumExp, kSumSquare };

struct ReduceParams {
  Loop<2> kept;      // x, y; without the columns
  Loop<1> reduced;   // x; without the row
  int64_t row = 1, row_step = 1;  // the innermost reduced dim
  int64_t width = 0, y_step = 0;  // columns; 0: by rows
  double count = 1;  // elements of a result
};

// What T is computed in, a vector of that, and what blocks are joined in.
template <class T>
struct Numbers {
  typedef T C;
  typedef T V __attribute__((vector_size(kVectorBytes)));
  typedef std::conditional_t<std::is_same_v<T, double>, double, T> Total;
  static constexpr int kCount = kVectorBytes / static_cast<int>(sizeof(T));
  static V get(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static C one(const T* p) { return *p; }
  static void put(C x, T* p) { *p = x; }
};
template <class T>
struct NarrowNumbers {
  typedef float C;
  typedef vf V;
  typedef double Total;
  static constexpr int kCount = kLanes;
  static V get(const T* p) { return load(p); }
  static V get_first(const T* p, int n) { return load_first(p, n); }
  static C one(const T* p) { return to_float(*p); }
  static void put(C x, T* p) { from_float(x, *p); }
};
template <>
struct Numbers<float> : NarrowNumbers<float> {};
template <>
struct Numbers<f16> : NarrowNumbers<f16> {};
template <>
struct Numbers<bf16> : NarrowNumbers<bf16> {};

// Booleans as bytes; what is not 0 is 1.
template <>
struct Numbers<bool> : Numbers<uint8_t> {
  static V get(const bool* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static C one(const bool* p) { return *p; }
  static void put(C x, bool* p) { *p = x != 0; }
};

template <class C>
constexpr C lowest_of() {
  return std::numeric_limits<C>::has_infinity ? -std::numeric_limits<C>::infinity() : std::numeric_limits<C>::lowest();
}
template <class C>
constexpr C highest_of() {
  return std::numeric_limits<C>::has_infinity ? std::numeric_limits<C>::infinity() : std::numeric_limits<C>::max();
}

GRAPHOPT_INLINE float exp_of(float x) { return std::exp(x); }
GRAPHOPT_INLINE double exp_of(double x) { return std::exp(x); }
GRAPHOPT_INLINE vf exp_of(vf x) { return exp(x); }
template <class V>
GRAPHOPT_INLINE V exp_of(V x) {
  for (int i = 0; i < kVectorBytes / 8; ++i) x[i] = std::exp(x[i]);
  return x;
}

// What is done with an element (less `shift`) before, and how two results are joined; for numbers and vectors alike.
// Of a NaN and a number, extremes are NaN.
template <Reduction op, class X>
GRAPHOPT_INLINE X prepared(X x, X shift) {
  if constexpr (op == Reduction::kL1) return x < 0 ? -x : x;
  else if constexpr (op == Reduction::kL2 || op == Reduction::kSumSquare) return x * x;
  else if constexpr (op == Reduction::kLogSumExp) return exp_of(x - shift);
  else return x;
}
template <Reduction op, class X>
GRAPHOPT_INLINE X joined(X a, X b) {
  if constexpr (op == Reduction::kMax) return (a > b) | (a != a) ? a : b;
  else if constexpr (op == Reduction::kMin) return (a < b) | (a != a) ? a : b;
  else if constexpr (op == Reduction::kProd) return a * b;
  else return a + b;
}
template <Reduction op, class C>
constexpr C identity_of() {
  if (op == Reduction::kMax) return lowest_of<C>();
  if (op == Reduction::kMin) return highest_of<C>();
  return op == Reduction::kProd ? C{1} : C{0};
}
template <Reduction op, class Total, class C>
C finished(Total total, double count, C shift) {
  if constexpr (op == Reduction::kMean) {
    if constexpr (std::is_integral_v<C>) return count == 0 ? C{0} : static_cast<C>(total / static_cast<C>(count));
    else return static_cast<C>(total / static_cast<Total>(count));
  } else if constexpr (op == Reduction::kL2) {
    return static_cast<C>(std::sqrt(total));
  } else if constexpr (op == Reduction::kLogSum) {
    return static_cast<C>(std::log(total));
  } else if constexpr (op == Reduction::kLogSumExp) {
    return static_cast<C>(std::log(total) + static_cast<Total>(shift));
  } else {
    return static_cast<C>(total);
  }
}

constexpr int64_t kReduceBlock = 64;

// The lanes of a vector, joined.
template <Reduction op, class V>
GRAPHOPT_INLINE auto across(V v) {
  constexpr int kCount = sizeof(V) / sizeof(v[0]);
  if constexpr (std::is_same_v<V, vf> && op != Reduction::kMax && op != Reduction::kMin && op != Reduction::kProd) {
    return sum_of(v);
  } else if constexpr (std::is_same_v<V, vf> && op != Reduction::kProd) {
    const float same = sum_of((vf)((v == v) & (vi)broadcast(1.0f)));  // lanes that are numbers
    if (same != static_cast<float>(kLanes)) return std::numeric_limits<float>::quiet_NaN();
    return op == Reduction::kMax ? max_of(v) : min_of(v);
  } else {
    auto all = v[0];
    for (int i = 1; i < kCount; ++i) all = joined<op>(all, static_cast<decltype(all)>(v[i]));
    return all;
  }
}

template <Reduction op, class T>
typename Numbers<T>::Total reduce_row(const T* x, int64_t n, int64_t step, typename Numbers<T>::C shift) {
  using N = Numbers<T>;
  using V = typename N::V;
  using Total = typename N::Total;
  Total total = identity_of<op, Total>();
  int64_t i = 0;
  constexpr bool kMasks = std::is_same_v<V, vf>;
  if (step == 1) {
    while (kMasks ? i < n : n - i >= N::kCount) {
      V s[4];
      for (V& part : s) part = identity_of<op, typename N::C>() - V{};
      const V minus = shift - V{};
      const int64_t end = std::min(n, i + kReduceBlock * N::kCount);
      for (; i + 4 * N::kCount <= end; i += 4 * N::kCount)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) s[k] = joined<op>(s[k], prepared<op>(N::get(x + i + k * N::kCount), minus));
      for (; i + N::kCount <= end; i += N::kCount) s[0] = joined<op>(s[0], prepared<op>(N::get(x + i), minus));
      if constexpr (kMasks)
        if (const int rest = static_cast<int>(end - i)) {
          const V v = prepared<op>(N::get_first(x + i, rest), minus);
          s[1] = joined<op>(s[1], first_lanes(v, rest, broadcast(identity_of<op, float>())));
          i = end;
        }
      const V all = joined<op>(joined<op>(s[0], s[1]), joined<op>(s[2], s[3]));
      total = joined<op>(total, static_cast<Total>(across<op>(all)));
    }
  }
  while (i < n) {
    Total part = identity_of<op, Total>();
    for (const int64_t end = std::min(n, i + kReduceBlock); i < end; ++i)
      part = joined<op>(part, static_cast<Total>(prepared<op>(N::one(x + i * step), shift)));
    total = joined<op>(total, part);
  }
  return total;
}

// Rows at offsets at[0 .. count) in x, each with its shift. The outermost reduced dims are walked once for all of them,
// so that memory is read in its order.
constexpr int64_t kRowsAtOnce = 64;

template <Reduction op, class T>
void reduce_some(const ReduceParams& p, const T* x, const int64_t* at, int64_t count, const typename Numbers<T>::C* shift,
                 typename Numbers<T>::Total* total) {
  if (p.reduced.rank == 0) {
    for (int64_t i = 0; i < count; ++i) total[i] = reduce_row<op>(x + at[i], p.row, p.row_step, shift[i]);
    return;
  }
  for (int64_t i = 0; i < count; ++i) total[i] = identity_of<op, typename Numbers<T>::Total>();
  walk<1>(p.reduced, 0, p.reduced.count, [&](const int64_t(&outer)[1]) {
    for (int64_t i = 0; i < count; ++i)
      total[i] = joined<op>(total[i], reduce_row<op>(x + outer[0] + at[i], p.row, p.row_step, shift[i]));
  });
}

template <class C>
C finite_or_zero(C x) { return std::isfinite(x) ? x : C{0}; }

template <Reduction op, class T>
void reduce_block(const ReduceParams& p, const T* x, const int64_t* from, T* y, const int64_t* to, int64_t count) {
  typename Numbers<T>::C shift[kRowsAtOnce] = {};
  typename Numbers<T>::Total total[kRowsAtOnce];
  if constexpr (op == Reduction::kLogSumExp) {
    reduce_some<Reduction::kMax>(p, x, from, count, shift, total);
    for (int64_t i = 0; i < count; ++i) shift[i] = finite_or_zero(static_cast<typename Numbers<T>::C>(total[i]));
  }
  reduce_some<op>(p, x, from, count, shift, total);
  for (int64_t i = 0; i < count; ++i) Numbers<T>::put(finished<op>(total[i], p.count, shift[i]), y + to[i]);
}

template <Reduction op, class T>
void reduce_rows(const Instr& instr, Worker& w) {
  const ReduceParams& p = instr.as<ReduceParams>();
  const T* x = instr.in[0]->as<T>();
  T* y = instr.out[0]->as<T>();
  const int64_t grain = 1 + kGrainElements / (static_cast<int64_t>(p.count) + 1);
  w.parallel(p.kept.count, grain, [&](int64_t begin, int64_t end, Worker&) {
    int64_t from[kRowsAtOnce], to[kRowsAtOnce], count = 0;
    walk<2>(p.kept, begin, end, [&](const int64_t(&at)[2]) {
      from[count] = at[0];
      to[count++] = at[1];
      if (count == kRowsAtOnce) {
        reduce_block<op>(p, x, from, y, to, count);
        count = 0;
      }
    });
    reduce_block<op>(p, x, from, y, to, count);
  });
}

// nv vectors of results.
template <Reduction op, int nv, class T>
void reduce_down(const ReduceParams& p, const T* x, const typename Numbers<T>::V (&shift)[nv],
                 typename Numbers<T>::V (&total)[nv]) {
  using N = Numbers<T>;
  for (auto& t : total) t = identity_of<op, typename N::C>() - typename N::V{};
  walk<1>(p.reduced, 0, p.reduced.count, [&](const int64_t(&at)[1]) {
    for (int64_t i = 0; i < p.row;) {
      typename N::V part[nv];
      for (auto& s : part) s = identity_of<op, typename N::C>() - typename N::V{};
      for (const int64_t end = std::min(p.row, i + kReduceBlock); i < end; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < nv; ++v)
          part[v] = joined<op>(part[v], prepared<op>(N::get(x + at[0] + i * p.row_step + v * N::kCount), shift[v]));
      for (int v = 0; v < nv; ++v) total[v] = joined<op>(total[v], part[v]);
    }
  });
}

template <Reduction op, int nv, class T>
void reduce_vectors(const ReduceParams& p, const T* x, T* y) {
  using N = Numbers<T>;
  typename N::V shift[nv] = {}, total[nv];
  if constexpr (op == Reduction::kLogSumExp) {
    const typename N::V none[nv] = {};
    reduce_down<Reduction::kMax, nv>(p, x, none, shift);
    for (auto& s : shift)
      for (int k = 0; k < N::kCount; ++k) s[k] = finite_or_zero(static_cast<typename N::C>(s[k]));
  }
  reduce_down<op, nv>(p, x, shift, total);
  for (int v = 0; v < nv; ++v)
    for (int k = 0; k < N::kCount; ++k)
      N::put(finished<op>(static_cast<typename N::Total>(total[v][k]), p.count, static_cast<typename N::C>(shift[v][k])),
             y + (v * N::kCount + k) * p.y_step);
}

template <Reduction op, class T>
void reduce_columns(const Instr& instr, Worker& w) {
  using N = Numbers<T>;
  const ReduceParams& p = instr.as<ReduceParams>();
  const T* x = instr.in[0]->as<T>();
  T* y = instr.out[0]->as<T>();
  constexpr int64_t kWide = 4 * N::kCount;
  const int64_t blocks = (p.width + kWide - 1) / kWide;
  const int64_t grain = 1 + kGrainElements / ((static_cast<int64_t>(p.count) + 1) * std::min(p.width, kWide));
  w.parallel(p.kept.count * blocks, grain, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t at[2];
      p.kept.locate(i / blocks, at);
      int64_t c = i % blocks * kWide;
      const T* from = x + at[0];
      T* to = y + at[1];
      const int64_t last = std::min(p.width, c + kWide);
      if (last - c == kWide) {
        reduce_vectors<op, 4>(p, from + c, to + c * p.y_step);
        continue;
      }
      for (; c + N::kCount <= last; c += N::kCount) reduce_vectors<op, 1>(p, from + c, to + c * p.y_step);
      for (; c < last; ++c) {
        const int64_t row = c, result = c * p.y_step;
        reduce_block<op>(p, from, &row, to, &result, 1);
      }
    }
  });
}

template <Reduction op, class T>
Run reduce_of(const ReduceParams& p) {
  return p.width ? reduce_columns<op, T> : reduce_rows<op, T>;
}

// Null where the operator has no such type.
Run reduce_float(const ReduceParams& p, Reduction op, DType dtype);
Run reduce_integer(const ReduceParams& p, Reduction op, DType dtype);

}  // namespace graphopt
