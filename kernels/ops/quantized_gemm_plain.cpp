// `matmul.integer`: the product of bytes where both sides are made at run time; correct for any strides, not blocked.
//
// Operands A, B, -, -, zero points of A (one, or one a row) and of B (one, or one a column); ints as `matmul`. The
// result has 32 bits. Constant weights take `gemm.u8s8`.
#include "ops/gemm_matmul.h"
#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Plain {
  Extent extent;
  int64_t depth, columns, a_step, b_row, b_step, grain;
  int64_t rows;  // of all batches
};

int32_t zero_at(const Tensor* t, int64_t i) {
  if (t == nullptr) return 0;
  const int64_t at = t->count() == 1 ? 0 : i;
  return t->dtype == DType::kInt8 ? t->as<int8_t>()[at] : t->dtype == DType::kUint8 ? t->as<uint8_t>()[at] : t->as<int32_t>()[at];
}

template <class A, class B>
void run(const Instr& i, Worker& worker) {
  const auto& m = i.as<Plain>();
  const Loop& rows = m.extent.rows;
  worker.parallel(m.extent.batches.count() * rows.size, m.grain, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t index = begin; index < end; ++index) {
      const Loop at = m.extent.batches.at(index / rows.size);
      const int64_t row = index % rows.size;
      const A* a = i.in[0]->as<A>() + at.a + row * rows.a;
      const B* b = i.in[1]->as<B>() + at.b;
      int32_t* c = i.out[0]->as<int32_t>() + at.c + row * rows.c;
      const int32_t zero = zero_at(i.in[4], index);
      for (int64_t j = 0; j < m.columns; ++j) c[j] = 0;
      for (int64_t k = 0; k < m.depth; ++k) {
        const int32_t x = a[k * m.a_step] - zero;
        for (int64_t j = 0; j < m.columns; ++j) c[j] += x * (b[k * m.b_row + j * m.b_step] - zero_at(i.in[5], j));
      }
    }
  });
}

Run prepare(Bind& b) {
  if (b.n_in != 6) b.host->fail("a product of bytes takes 6 operands");
  const Factors f = make_factors(b);
  auto& m = b.make<Plain>();
  m.extent = f.extent;
  m.depth = f.depth, m.columns = f.columns;
  m.a_step = f.a_step, m.b_row = f.b_row, m.b_step = f.b_step;
  m.grain = grain_of(f.depth * f.columns);
  m.rows = m.extent.batches.count() * m.extent.rows.size;
  for (int i = 4; i < 6; ++i) {
    const int64_t many = i == 4 ? m.rows : m.columns;
    if (b.has(i) && (!b.in[i]->is_dense() || (b.in[i]->count() != 1 && b.in[i]->count() != many)))
      b.host->fail("%lld zero points for %lld", static_cast<long long>(b.in[i]->count()), static_cast<long long>(many));
  }
  const bool a_signed = f.a.dtype == DType::kInt8, b_signed = f.b.dtype == DType::kInt8;
  if ((!a_signed && f.a.dtype != DType::kUint8) || (!b_signed && f.b.dtype != DType::kUint8) || f.c.dtype != DType::kInt32)
    b.host->fail("a product of bytes of element types %d and %d", static_cast<int>(f.a.dtype), static_cast<int>(f.b.dtype));
  if (a_signed) return b_signed ? run<int8_t, int8_t> : run<int8_t, uint8_t>;
  return b_signed ? run<uint8_t, int8_t> : run<uint8_t, uint8_t>;
}

const RegisterKernel matmul_integer{"matmul.integer", prepare, shape_matmul};

}  // namespace
}  // namespace graphopt
