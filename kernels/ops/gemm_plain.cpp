// `matmul` of doubles and integers: correct for any strides, the compiler's vectors, no blocking.
//
// Loop order: rows, then K, then columns, so that B and C are read along rows. Integers wrap around.
#include <type_traits>

#include "ops/gemm_matmul.h"
#include "ops/gemm_packed.h"

namespace graphopt {
namespace {

struct Plain {
  Extent extent;
  int64_t depth, columns, a_step, b_row, b_step, residual_column;
  double alpha, beta;
  bool has_bias, has_residual;
  int64_t grain;
};

template <class T>
void row_of(const Plain& m, const T* a, const T* b, const T* bias, const T* residual, T* c) {
  // Sums of signed integers wrap around as those of unsigned ones do.
  using Sum = typename std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, std::type_identity<T>>::type;
  for (int64_t j = 0; j < m.columns; ++j) c[j] = 0;
  auto* sums = reinterpret_cast<Sum*>(c);
  for (int64_t k = 0; k < m.depth; ++k) {
    const Sum x = static_cast<Sum>(a[k * m.a_step]);
    const T* w = b + k * m.b_row;
    if (m.b_step == 1) {
      for (int64_t j = 0; j < m.columns; ++j) sums[j] += static_cast<Sum>(1u * x * static_cast<Sum>(w[j]));
    } else {
      for (int64_t j = 0; j < m.columns; ++j) sums[j] += static_cast<Sum>(1u * x * static_cast<Sum>(w[j * m.b_step]));
    }
  }
  if (m.alpha != 1)
    for (int64_t j = 0; j < m.columns; ++j) c[j] = static_cast<T>(static_cast<double>(c[j]) * m.alpha);
  if (bias != nullptr)
    for (int64_t j = 0; j < m.columns; ++j) sums[j] += static_cast<Sum>(bias[j]);
  if (residual == nullptr) return;
  if (m.beta == 1) {
    for (int64_t j = 0; j < m.columns; ++j) sums[j] += static_cast<Sum>(residual[j * m.residual_column]);
  } else {
    for (int64_t j = 0; j < m.columns; ++j)
      sums[j] += static_cast<Sum>(static_cast<T>(static_cast<double>(residual[j * m.residual_column]) * m.beta));
  }
}

template <class T>
void run(const Instr& i, Worker& worker) {
  const auto& m = i.as<Plain>();
  const Loop& rows = m.extent.rows;
  worker.parallel(m.extent.batches.count() * rows.size, m.grain, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t index = begin; index < end; ++index) {
      const Loop at = m.extent.batches.at(index / rows.size);
      const int64_t row = index % rows.size;
      row_of<T>(m, i.in[0]->as<T>() + at.a + row * rows.a, i.in[1]->as<T>() + at.b, m.has_bias ? i.in[2]->as<T>() : nullptr,
                m.has_residual ? i.in[3]->as<T>() + at.residual + row * rows.residual : nullptr,
                i.out[0]->as<T>() + at.c + row * rows.c);
    }
  });
}

}  // namespace

Run prepare_plain(Bind& b, const Factors& f) {
  auto& m = b.make<Plain>();
  m.extent = f.extent;
  m.depth = f.depth, m.columns = f.columns;
  m.a_step = f.a_step, m.b_row = f.b_row, m.b_step = f.b_step;
  m.alpha = b.n_floats > 0 ? b.floats[0] : 1;
  m.beta = b.n_floats > 3 ? b.floats[3] : 1;
  m.has_bias = b.has(2), m.has_residual = b.has(3);
  m.grain = grain_of(f.depth * f.columns);
  if (b.ints[0] != 0) b.host->fail("an activation after a product of element type %d", static_cast<int>(f.a.dtype));
  for (int i = 2; i < 4; ++i)
    if (b.has(i) && b.in[i]->dtype != f.a.dtype) b.host->fail("a bias or residual of element type %d", static_cast<int>(b.in[i]->dtype));
  if (m.has_residual) {
    const Tensor& r = *b.in[3];
    m.residual_column = r.rank > 0 && r.dims[r.rank - 1] != 1 ? r.strides[r.rank - 1] : 0;
  }
  switch (f.a.dtype) {
    case DType::kDouble: return run<double>;
    case DType::kInt8: return run<int8_t>;
    case DType::kUint8: return run<uint8_t>;
    case DType::kInt16: return run<int16_t>;
    case DType::kUint16: return run<uint16_t>;
    case DType::kInt32: return run<int32_t>;
    case DType::kUint32: return run<uint32_t>;
    case DType::kInt64: return run<int64_t>;
    case DType::kUint64: return run<uint64_t>;
    default: b.host->fail("a product of element type %d", static_cast<int>(f.a.dtype));
  }
}

}  // namespace graphopt
