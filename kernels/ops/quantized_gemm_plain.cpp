// `matmul.integer`: the product of bytes where both sides are made at run time; correct for any strides, not blocked.
//
// Operands A, B, -, -, scales and zero points of A (one, or one a row), of B (one, or one a column), of the result; ints
// as `matmul`. The result has 32 bits, or is requantized. Constant weights take `gemm.u8s8`, which has the same
// operands.
#include "ops/gemm_matmul.h"
#include "ops/gemm_packed.h"
#include "ops/quantized_gemm.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Plain {
  Extent extent;
  int64_t depth, columns, a_step, b_row, b_step, grain;
  bool requantizes;
};

enum Operand { kA, kB, kScaleA = 4, kZeroA, kScaleB, kZeroB, kScaleY, kZeroY };

// Of one value for all, or of many.
int64_t place(const Tensor* t, int64_t i) { return t == nullptr || t->count() == 1 ? 0 : i; }

template <class A, class B>
void run(const Instr& i, Worker& worker) {
  const auto& m = i.as<Plain>();
  const Loop& rows = m.extent.rows;
  worker.parallel(m.extent.batches.count() * rows.size, m.grain, [&](int64_t begin, int64_t end, Worker& w) {
    for (int64_t index = begin; index < end; ++index) {
      const Loop at = m.extent.batches.at(index / rows.size);
      const int64_t row = index % rows.size;
      const A* a = i.in[0]->as<A>() + at.a + row * rows.a;
      const B* b = i.in[1]->as<B>() + at.b;
      const int64_t start = at.c + row * rows.c;
      int32_t* c = m.requantizes ? reinterpret_cast<int32_t*>(w.scratch) : i.out[0]->as<int32_t>() + start;
      const int32_t zero = integer_at(i.in[kZeroA], place(i.in[kZeroA], index));
      for (int64_t j = 0; j < m.columns; ++j) c[j] = 0;
      for (int64_t k = 0; k < m.depth; ++k) {
        const int32_t x = a[k * m.a_step] - zero;
        for (int64_t j = 0; j < m.columns; ++j)
          c[j] += x * (b[k * m.b_row + j * m.b_step] - integer_at(i.in[kZeroB], place(i.in[kZeroB], j)));
      }
      if (!m.requantizes) continue;
      const Requantization requantize(i.out[0]->dtype, integer_at(i.in[kZeroY], 0));
      const float a_scale = scale_at(i.in[kScaleA], place(i.in[kScaleA], index)), y_scale = scale_at(i.in[kScaleY], 0);
      for (int64_t j = 0; j < m.columns; ++j)
        i.out[0]->as<uint8_t>()[start + j] = requantize(c[j], a_scale * scale_at(i.in[kScaleB], place(i.in[kScaleB], j)) / y_scale);
    }
  });
}

Run prepare(Bind& b) {
  if (b.n_in != 10) b.host->fail("a product of bytes takes 10 operands");
  const Factors f = make_factors(b);
  auto& m = b.make<Plain>();
  m.extent = f.extent;
  m.depth = f.depth, m.columns = f.columns;
  m.a_step = f.a_step, m.b_row = f.b_row, m.b_step = f.b_step;
  m.grain = grain_of(f.depth * f.columns);
  const int64_t rows = m.extent.batches.count() * m.extent.rows.size;
  for (int i = kScaleA; i <= kZeroY; ++i) {
    const int64_t many = i <= kZeroA ? rows : i <= kZeroB ? m.columns : 1;
    if (b.has(i) && (!b.in[i]->is_dense() || (b.in[i]->count() != 1 && b.in[i]->count() != many)))
      b.host->fail("%lld scales or zero points for %lld", static_cast<long long>(b.in[i]->count()), static_cast<long long>(many));
    if (b.has(i) && (i - kScaleA) % 2 == 0 && b.in[i]->dtype != DType::kFloat) b.host->fail("scales of element type %d", static_cast<int>(b.in[i]->dtype));
  }
  m.requantizes = f.c.dtype != DType::kInt32;
  if (m.requantizes) b.need_scratch(m.columns * 4 + 64);
  const bool a_signed = f.a.dtype == DType::kInt8, b_signed = f.b.dtype == DType::kInt8;
  if ((!a_signed && f.a.dtype != DType::kUint8) || (!b_signed && f.b.dtype != DType::kUint8) ||
      (m.requantizes && f.c.dtype != DType::kUint8 && f.c.dtype != DType::kInt8))
    b.host->fail("a product of bytes of element types %d and %d in %d", static_cast<int>(f.a.dtype), static_cast<int>(f.b.dtype),
                 static_cast<int>(f.c.dtype));
  if (a_signed) return b_signed ? run<int8_t, int8_t> : run<int8_t, uint8_t>;
  return b_signed ? run<uint8_t, int8_t> : run<uint8_t, uint8_t>;
}

const RegisterKernel matmul_integer{"matmul.integer", prepare, shape_matmul};

}  // namespace
}  // namespace graphopt
