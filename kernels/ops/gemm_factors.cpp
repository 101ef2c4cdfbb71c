// Dims and strides of the operands of `matmul`.
#include <utility>

#include "ops/gemm_matmul.h"

namespace graphopt {
namespace {

void insert_one(Tensor& t, int at) {
  for (int i = t.rank; i > at; --i) t.dims[i] = t.dims[i - 1], t.strides[i] = t.strides[i - 1];
  t.dims[at] = 1;
  t.strides[at] = 0;
  ++t.rank;
}

void transpose(Tensor& t) {
  std::swap(t.dims[t.rank - 1], t.dims[t.rank - 2]);
  std::swap(t.strides[t.rank - 1], t.strides[t.rank - 2]);
}

// Matrices of both; whether they were vectors.
std::pair<bool, bool> make_matrices(const Bind& b, Tensor& a, Tensor& w) {
  if (b.n_ints != 2) b.host->fail("a product takes 2 numbers, not %d", b.n_ints);
  a = *b.in[0];
  w = *b.in[1];
  if (a.rank < 1 || w.rank < 1) b.host->fail("a product of a scalar");
  const std::pair<bool, bool> vectors{a.rank == 1, w.rank == 1};
  if (vectors.first) insert_one(a, 0);
  else if ((b.ints[1] & kTransposeA) != 0) transpose(a);
  if (vectors.second) insert_one(w, 1);
  else if ((b.ints[1] & kTransposeB) != 0) transpose(w);
  if (a.dims[a.rank - 1] != w.dims[w.rank - 2])
    b.host->fail("[.., %lld, %lld] times [.., %lld, %lld]", static_cast<long long>(a.dims[a.rank - 2]),
                 static_cast<long long>(a.dims[a.rank - 1]), static_cast<long long>(w.dims[w.rank - 2]),
                 static_cast<long long>(w.dims[w.rank - 1]));
  return vectors;
}

}  // namespace

Factors make_factors(const Bind& b) {
  Factors f{};
  const auto [a_vector, b_vector] = make_matrices(b, f.a, f.b);
  f.c = *b.out[0];
  if (b_vector && f.c.rank < kMaxRank) insert_one(f.c, f.c.rank);
  if (a_vector && f.c.rank < kMaxRank) insert_one(f.c, f.c.rank - 1);
  if ((a_vector || b_vector) && b.has(3)) b.host->fail("a residual of the product of a vector");
  const int leading = f.c.rank - 1;
  f.depth = f.a.dims[f.a.rank - 1];
  f.columns = f.b.dims[f.b.rank - 1];
  if (f.c.rank < 2 || f.c.dims[leading] != f.columns || f.c.dims[leading - 1] != f.a.dims[f.a.rank - 2])
    b.host->fail("a product of %lld x %lld in a result of rank %d", static_cast<long long>(f.a.dims[f.a.rank - 2]),
                 static_cast<long long>(f.columns), b.out[0]->rank);
  if (f.columns > 1 && f.c.strides[leading] != 1) b.host->fail("the rows of the result have stride %lld", static_cast<long long>(f.c.strides[leading]));
  const bool bytes = size_of(f.a.dtype) == 1 && size_of(f.b.dtype) == 1;  // signed and unsigned mix
  if (f.a.dtype != f.b.dtype && !bytes) b.host->fail("a product of element types %d and %d", static_cast<int>(f.a.dtype), static_cast<int>(f.b.dtype));
  if (b.has(2) && (b.in[2]->rank != 1 || b.in[2]->dims[0] != f.columns || (f.columns > 1 && b.in[2]->strides[0] != 1)))
    b.host->fail("a bias for %lld columns", static_cast<long long>(f.columns));
  int64_t a_strides[kMaxRank], b_strides[kMaxRank];
  leading_strides(b, f.a, f.a.rank - 1, f.c, leading, a_strides);
  leading_strides(b, f.b, f.b.rank - 2, f.c, leading - 1, b_strides);
  b_strides[leading - 1] = 0;
  f.extent = make_extent(b, f.c, a_strides, b_strides);
  f.a_step = f.depth > 1 ? f.a.strides[f.a.rank - 1] : 1;
  f.b_step = f.columns > 1 ? f.b.strides[f.b.rank - 1] : 1;
  f.b_row = f.depth > 1 ? f.b.strides[f.b.rank - 2] : f.columns;
  return f;
}

void shape_matmul(Bind& b) {
  Tensor x, y;
  const auto [a_vector, b_vector] = make_matrices(b, x, y);
  Tensor& c = *b.out[0];
  const int batches = (x.rank > y.rank ? x.rank : y.rank) - 2;
  for (int i = 0; i < batches; ++i) {
    const int ia = i - (batches - (x.rank - 2)), ib = i - (batches - (y.rank - 2));
    const int64_t p = ia < 0 ? 1 : x.dims[ia], q = ib < 0 ? 1 : y.dims[ib];
    if (p != q && p != 1 && q != 1) b.host->fail("batches of %lld and %lld", static_cast<long long>(p), static_cast<long long>(q));
    c.dims[i] = p == 1 ? q : p;
  }
  c.rank = batches;
  if (!a_vector) c.dims[c.rank++] = x.dims[x.rank - 2];
  if (!b_vector) c.dims[c.rank++] = y.dims[y.rank - 1];
}

}  // namespace graphopt
