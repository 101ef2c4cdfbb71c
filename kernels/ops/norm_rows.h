// Loops over the rows of tensors with any strides: what normalizations, softmax, sorting and sums along an axis share.
#pragma once
#include <cstring>

#include "ops/registry.h"
#include "simd/half.h"

namespace graphopt {

// Dims that N tensors are walked over together, from the outermost; dims of 1 are left out, neighbours merged.
template <int N>
struct Loop {
  int32_t rank = 0;
  int64_t count = 1;
  int64_t dims[kMaxRank] = {};
  int64_t strides[N][kMaxRank] = {};

  void add(int64_t dim, const int64_t (&steps)[N]) {
    count *= dim;
    if (dim == 1) return;
    bool merges = rank > 0;
    for (int k = 0; merges && k < N; ++k) merges = strides[k][rank - 1] == steps[k] * dim;
    if (!merges) ++rank;
    dims[rank - 1] = merges ? dims[rank - 1] * dim : dim;
    for (int k = 0; k < N; ++k) strides[k][rank - 1] = steps[k];
  }
  // The offsets of iteration `index`.
  void locate(int64_t index, int64_t (&offsets)[N]) const {
    for (int k = 0; k < N; ++k) offsets[k] = 0;
    for (int i = rank - 1; i >= 0; --i) {
      const int64_t at = i == 0 ? index : index % dims[i];
      if (i > 0) index /= dims[i];
      for (int k = 0; k < N; ++k) offsets[k] += at * strides[k][i];
    }
  }
};

// f(offsets) for iterations [begin, end).
template <int N, class F>
inline void walk(const Loop<N>& loop, int64_t begin, int64_t end, const F& f) {
  if (begin >= end) return;
  if (loop.rank <= 1) {
    int64_t at[N];
    loop.locate(begin, at);
    for (int64_t i = begin; i < end; ++i) {
      f(at);
      for (int k = 0; k < N; ++k) at[k] += loop.strides[k][0];
    }
    return;
  }
  int64_t index[kMaxRank], at[N], rest = begin;
  loop.locate(begin, at);
  for (int i = loop.rank - 1; i >= 0; --i) {
    index[i] = i == 0 ? rest : rest % loop.dims[i];
    rest /= loop.dims[i];
  }
  for (int64_t n = begin;;) {
    f(at);
    if (++n >= end) return;
    for (int i = loop.rank - 1; i >= 0; --i) {
      for (int k = 0; k < N; ++k) at[k] += loop.strides[k][i];
      if (++index[i] < loop.dims[i] || i == 0) break;
      for (int k = 0; k < N; ++k) at[k] -= loop.dims[i] * loop.strides[k][i];
      index[i] = 0;
    }
  }
}

// Rows of x and the same rows of y. Rows that are not contiguous are gathered to scratch memory, and scattered from it.
struct RowPlan {
  Loop<2> outer, inner;
  int64_t length = 1, grain = 1;
  bool x_contiguous = false, y_contiguous = false;
};

inline bool is_contiguous(const Loop<2>& row, int which) {
  return row.rank == 0 || (row.rank == 1 && row.strides[which][0] == 1);
}

// Work for at least this many elements makes a thread worth waking.
constexpr int64_t kGrainElements = 16384;

// The rows along dims [first, last) of x and y, whose dims are the same.
inline RowPlan plan_rows(Bind& b, const Tensor& x, const Tensor& y, int first, int last) {
  RowPlan plan;
  for (int i = 0; i < x.rank; ++i)
    (i >= first && i < last ? plan.inner : plan.outer).add(x.dims[i], {x.strides[i], y.strides[i]});
  plan.length = plan.inner.count;
  plan.x_contiguous = is_contiguous(plan.inner, 0);
  plan.y_contiguous = is_contiguous(plan.inner, 1);
  plan.grain = plan.length > 0 ? 1 + kGrainElements / plan.length : 1;
  const int64_t row = (plan.length * size_of(x.dtype) + 63) / 64 * 64;
  b.need_scratch((plan.x_contiguous ? 0 : row) + (plan.y_contiguous ? 0 : row));
  return plan;
}

// f(x, y, row number) for every row.
template <class T, class F>
inline void over_rows(const RowPlan& plan, const Tensor& from, const Tensor& to, Worker& w, const F& f) {
  const T* x = from.as<T>();
  T* y = to.as<T>();
  w.parallel(plan.outer.count, plan.grain, [&](int64_t begin, int64_t end, Worker& v) {
    T* gathered = reinterpret_cast<T*>(v.scratch);
    T* result = gathered + (plan.x_contiguous ? 0 : (plan.length * sizeof(T) + 63) / 64 * 64 / sizeof(T));
    int64_t row = begin;
    walk<2>(plan.outer, begin, end, [&](const int64_t(&at)[2]) {
      const T* source = x + at[0];
      T* target = y + at[1];
      if (!plan.x_contiguous) {
        T* next = gathered;
        walk<2>(plan.inner, 0, plan.length, [&](const int64_t(&k)[2]) { *next++ = source[k[0]]; });
        source = gathered;
      }
      f(source, plan.y_contiguous ? target : result, row++);
      if (!plan.y_contiguous) {
        const T* next = result;
        walk<2>(plan.inner, 0, plan.length, [&](const int64_t(&k)[2]) { target[k[1]] = *next++; });
      }
    });
  });
}

inline bool is_real(DType t) {
  return t == DType::kFloat || t == DType::kFloat16 || t == DType::kBfloat16 || t == DType::kDouble;
}

// Calls f with a value of the float type behind `t`: f.template operator()<T>().
template <class F>
inline Run for_float(Bind& b, const char* kernel, DType t, const F& f) {
  switch (t) {
    case DType::kFloat: return f.template operator()<float>();
    case DType::kDouble: return f.template operator()<double>();
    case DType::kFloat16: return f.template operator()<f16>();
    case DType::kBfloat16: return f.template operator()<bf16>();
    default: b.host->fail("%s has no form for element type %d", kernel, static_cast<int>(t));
  }
}

inline bool same_dims(const Tensor& a, const Tensor& b) {
  bool same = a.rank == b.rank;
  for (int i = 0; same && i < a.rank; ++i) same = a.dims[i] == b.dims[i];
  return same;
}

inline void shape_like_input(Bind& b) {
  b.out[0]->rank = b.in[0]->rank;
  for (int i = 0; i < b.in[0]->rank; ++i) b.out[0]->dims[i] = b.in[0]->dims[i];
}

// -rank..rank-1 as 0..rank-1.
inline int axis_of(Bind& b, const char* kernel, int64_t axis, int rank) {
  const int64_t at = axis < 0 ? axis + rank : axis;
  if (at < 0 || at >= rank) b.host->fail("%s: axis %lld of a tensor of rank %d", kernel, static_cast<long long>(axis), rank);
  return static_cast<int>(at);
}

// v in the first n lanes, `other` in the rest.
GRAPHOPT_INLINE vf first_lanes(vf v, int n, vf other) {
  vi lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < broadcast_bits(n) ? v : other;
}

}  // namespace graphopt
