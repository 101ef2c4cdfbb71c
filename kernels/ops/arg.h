// What selections and running sums share: every number type, and an axis as rows or as neighbouring columns.
#pragma once
#include <algorithm>

#include "ops/reduce.h"

namespace graphopt {

// Calls f for the element type behind `t`: f.template operator()<T>().
template <class F>
inline Run for_number(Bind& b, const char* kernel, DType t, const F& f) {
  switch (t) {
    case DType::kInt8: return f.template operator()<int8_t>();
    case DType::kUint8: return f.template operator()<uint8_t>();
    case DType::kInt16: return f.template operator()<int16_t>();
    case DType::kUint16: return f.template operator()<uint16_t>();
    case DType::kInt32: return f.template operator()<int32_t>();
    case DType::kUint32: return f.template operator()<uint32_t>();
    case DType::kInt64: return f.template operator()<int64_t>();
    case DType::kUint64: return f.template operator()<uint64_t>();
    default: return for_float(b, kernel, t, f);
  }
}

// x and y along one axis, which they may have in different strides and (y) lengths; the other dims are the same.
// Where neighbours in both are apart along another dim only, that dim is cut off as columns.
struct AxisPlan {
  Loop<2> outer;
  int64_t length = 0, x_step = 0, y_step = 0;
  int64_t width = 1, blocks = 1;  // columns, and pieces of kColumns of them
  int64_t grain = 1;
};

constexpr int64_t kColumns = 64;

// y_dim: which dim of y a dim of x is; -1: it has none (the axis, where it is reduced away).
inline AxisPlan plan_axis(const Tensor& x, const Tensor& y, int axis, const int (&y_dim)[kMaxRank], bool columns) {
  AxisPlan p;
  p.length = x.rank == 0 ? 1 : x.dims[axis];
  p.x_step = x.rank == 0 ? 0 : x.strides[axis];
  p.y_step = x.rank == 0 || y_dim[axis] < 0 ? 0 : y.strides[y_dim[axis]];
  for (int i = 0; i < x.rank; ++i)
    if (i != axis) p.outer.add(x.dims[i], {x.strides[i], y.strides[y_dim[i]]});
  const int last = p.outer.rank - 1;
  if (columns && last >= 0 && p.outer.strides[0][last] == 1 && p.outer.strides[1][last] == 1 && p.outer.dims[last] >= 4) {
    p.width = p.outer.dims[last];
    p.blocks = (p.width + kColumns - 1) / kColumns;
    p.outer.count /= p.width;
    --p.outer.rank;
    p.outer.strides[0][last] = p.outer.strides[1][last] = 0;
  }
  p.grain = 1 + kGrainElements / (4 * (p.length * std::min(p.width, kColumns) + 1));
  return p;
}

// f(offset in x, offset in y, columns) for every row or block of columns.
template <class F>
inline void over_axis(const AxisPlan& p, Worker& w, const F& f) {
  w.parallel(p.outer.count * p.blocks, p.grain, [&](int64_t begin, int64_t end, Worker& v) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t at[2];
      p.outer.locate(i / p.blocks, at);
      const int64_t c = i % p.blocks * kColumns;
      f(at[0] + c, at[1] + c, std::min(kColumns, p.width - c), v);
    }
  });
}

// Whether a goes before b; NaN is larger than every number.
template <bool kLargest, class C>
GRAPHOPT_INLINE bool goes_before(C a, C b) {
  if constexpr (std::is_floating_point_v<C>)
    return kLargest ? (a > b) | ((a != a) & (b == b)) : (a < b) | ((b != b) & (a == a));
  return kLargest ? a > b : a < b;
}

}  // namespace graphopt
