// reduce   in: x   out: y   ints: operator (the order of enum Reduction), keepdims, all, axes...
//
// All: every dim is reduced; otherwise those of the axes, or none. Of no elements: 0 for sums, 1 for products, the lowest or highest value of the type
// for extremes, NaN for means. 70-80 GB/s of float32 rows in L2.
#include "ops/reduce.h"

namespace graphopt {
namespace {

// Bit i: dim i is reduced.
uint32_t reduced_dims(Bind& b) {
  const int rank = b.in[0]->rank;
  uint32_t dims = b.ints[2] ? (1u << rank) - 1 : 0;
  for (int i = 3; i < b.n_ints; ++i) dims |= 1u << axis_of(b, "reduce", b.ints[i], rank);
  return dims;
}

void shape(Bind& b) {
  const Tensor& x = *b.in[0];
  Tensor& y = *b.out[0];
  const uint32_t reduced = reduced_dims(b);
  y.rank = 0;
  for (int i = 0; i < x.rank; ++i) {
    if (!(reduced >> i & 1)) y.dims[y.rank++] = x.dims[i];
    else if (b.ints[1]) y.dims[y.rank++] = 1;
  }
}

Run prepare(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  if (b.ints[0] < 0 || b.ints[0] > static_cast<int64_t>(Reduction::kSumSquare) || x.dtype != y.dtype)
    b.host->fail("reduce: operator %lld", static_cast<long long>(b.ints[0]));
  const uint32_t reduced = reduced_dims(b);
  ReduceParams& p = b.make<ReduceParams>();
  // From the largest stride to the smallest, so that neighbours in memory merge and are walked in order.
  int order[kMaxRank], at[kMaxRank], next = 0;
  for (int i = 0; i < x.rank; ++i) {
    order[i] = i;
    at[i] = (reduced >> i & 1) && !b.ints[1] ? -1 : next++;
    if (at[i] >= 0 && y.dims[at[i]] != ((reduced >> i & 1) ? 1 : x.dims[i])) b.host->fail("reduce: dims of the result");
  }
  if (next != y.rank) b.host->fail("reduce: a result of rank %d, wanted %d", y.rank, next);
  for (int i = 1; i < x.rank; ++i)
    for (int j = i; j > 0 && std::abs(x.strides[order[j]]) > std::abs(x.strides[order[j - 1]]); --j)
      std::swap(order[j], order[j - 1]);
  Loop<1> inner;
  for (int n = 0; n < x.rank; ++n) {
    const int i = order[n];
    if (reduced >> i & 1) inner.add(x.dims[i], {x.strides[i]});
    else p.kept.add(x.dims[i], {x.strides[i], y.strides[at[i]]});
  }
  p.count = static_cast<double>(inner.count);
  // The innermost of the reduced dims is the row.
  p.reduced = inner;
  if (inner.rank > 0) {
    const int last = --p.reduced.rank;
    p.row = inner.dims[last];
    p.row_step = inner.strides[0][last];
    p.reduced.count = 1;
    for (int i = 0; i < last; ++i) p.reduced.count *= inner.dims[i];
  } else {
    p.row = inner.count;
  }
  const int last = p.kept.rank - 1;
  if (p.row_step != 1 && last >= 0 && p.kept.strides[0][last] == 1 && p.kept.dims[last] >= 4 && p.row > 0) {
    p.width = p.kept.dims[last];
    p.y_step = p.kept.strides[1][last];
    p.kept.count /= p.width;
    --p.kept.rank;
    p.kept.strides[0][last] = p.kept.strides[1][last] = 0;
  }
  const auto op = static_cast<Reduction>(b.ints[0]);
  const Run run = is_real(x.dtype) ? reduce_float(p, op, x.dtype) : reduce_integer(p, op, x.dtype);
  if (run == nullptr)
    b.host->fail("reduce: operator %d has no form for element type %d", static_cast<int>(op), static_cast<int>(x.dtype));
  return run;
}

const RegisterKernel reduce{"reduce", prepare, shape};

}  // namespace
}  // namespace graphopt
