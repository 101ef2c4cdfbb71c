// `quantize_rows`: floats to unsigned bytes, with a scale and a zero point for each row (quantized_rows.h).
//
// Two passes over a row, the second from L1.
#include "ops/gemm_packed.h"
#include "ops/quantized_rows.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Rows {
  Extent extent;  // a: of x, b: of scales and zeros, c: of y
  int64_t columns;
};

void quantize_row(const float* x, int64_t columns, uint8_t* y, float* scale, int32_t* zero) {
  vf low[2] = {}, high[2] = {};
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes)
    for (int k = 0; k < 2; ++k) {
      const vf v = load(x + j + k * kLanes);
      low[k] = min(low[k], v), high[k] = max(high[k], v);
    }
  for (; j + kLanes <= columns; j += kLanes) low[0] = min(low[0], load(x + j)), high[0] = max(high[0], load(x + j));
  if (const int rest = static_cast<int>(columns - j)) low[0] = min(low[0], load_first(x + j, rest)), high[0] = max(high[0], load_first(x + j, rest));
  const RowScale s = row_scale(min_of(min(low[0], low[1])), max_of(max(high[0], high[1])));
  quantize_row(s, x, columns, y);
  *scale = s.step, *zero = s.zero;
}

void run(const Instr& i, Worker& worker) {
  const auto& r = i.as<Rows>();
  const Loop& rows = r.extent.rows;
  const int64_t grain = r.columns > 0 ? 20000 / r.columns + 1 : 20000;
  worker.parallel(r.extent.batches.count() * rows.size, grain, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t index = begin; index < end; ++index) {
      const Loop at = r.extent.batches.at(index / rows.size);
      const int64_t row = index % rows.size, place = at.b + row * rows.b;
      quantize_row(i.in[0]->as<float>() + at.a + row * rows.a, r.columns, i.out[0]->as<uint8_t>() + at.c + row * rows.c,
                   i.out[1]->as<float>() + place, i.out[2]->as<int32_t>() + place);
    }
  });
}

Run prepare(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  auto& r = b.make<Rows>();
  if (x.rank < 1 || y.rank != x.rank || y.dims[y.rank - 1] != x.dims[x.rank - 1] || x.dtype != DType::kFloat || y.dtype != DType::kUint8)
    b.host->fail("quantizing rows of element type %d, rank %d", static_cast<int>(x.dtype), x.rank);
  check_rows(b, x, "the input");
  check_rows(b, y, "the result");
  r.columns = x.dims[x.rank - 1];
  int64_t x_strides[kMaxRank], row_strides[kMaxRank], step = 1;
  leading_strides(b, x, x.rank - 1, y, y.rank - 1, x_strides);
  for (int i = y.rank - 2; i >= 0; --i) row_strides[i] = step, step *= y.dims[i];
  for (int o = 1; o < 3; ++o)
    if (b.out[o]->count() != step || !b.out[o]->is_dense()) b.host->fail("%lld rows have one scale each", static_cast<long long>(step));
  r.extent = make_extent(b, y, x_strides, row_strides, true);
  return run;
}

void shape(Bind& b) {
  const Tensor& x = *b.in[0];
  for (int o = 0; o < 3; ++o) {
    b.out[o]->rank = o == 0 ? x.rank : x.rank - 1;
    for (int i = 0; i < b.out[o]->rank; ++i) b.out[o]->dims[i] = x.dims[i];
  }
}

const RegisterKernel quantize_rows{"quantize_rows", prepare, shape};

}  // namespace
}  // namespace graphopt
