// `quantize_rows`: floats to unsigned bytes, with a scale and a zero point for each row.
//
//   scale = (max(x, 0) - min(x, 0)) / 255, zero = round(-min / scale), y = saturate(round(x / scale) + zero)
//
// Two passes over a row, the second from L1.
#include <cmath>

#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Rows {
  Extent extent;  // a: of x, b: of scales and zeros, c: of y
  int64_t columns;
};

// Adding 1.5 * 2^23 rounds half to even and leaves the integer in the low bits.
constexpr float kRound = 12582912.0f;

void quantize_row(const float* x, int64_t columns, uint8_t* y, float* scale, int32_t* zero) {
  vf low{}, high{};
  int64_t j = 0;
  for (; j + kLanes <= columns; j += kLanes) low = min(low, load(x + j)), high = max(high, load(x + j));
  const int tail = static_cast<int>(columns - j);
  if (tail > 0) low = min(low, load_first(x + j, tail)), high = max(high, load_first(x + j, tail));
  const float least = min_of(low), range = max_of(high) - least;
  // A range below the smallest normal number has no inverse; it quantizes to zeros.
  const float step = range > 3e-36f ? range / 255.0f : 1.0f, inverse = 1.0f / step;
  const float offset = std::nearbyint(-least * inverse);
  *scale = step;
  *zero = static_cast<int32_t>(offset);
  const auto bytes = [&](vf v) {
    const vf shifted = v * inverse + kRound;
    const vi integers = (vi)shifted - broadcast_bits(0x4b400000) + static_cast<int32_t>(offset);
    const vi positive = integers < 0 ? vi{} : integers;
    return positive > 255 ? broadcast_bits(255) : positive;
  };
  for (j = 0; j + kLanes <= columns; j += kLanes) {
    const vi v = bytes(load(x + j));
#if defined(__AVX512F__)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + j), _mm512_cvtepi32_epi8((__m512i)v));
#else
    for (int lane = 0; lane < kLanes; ++lane) y[j + lane] = static_cast<uint8_t>(v[lane]);
#endif
  }
  if (tail > 0) {
    const vi v = bytes(load_first(x + j, tail));
    for (int lane = 0; lane < tail; ++lane) y[j + lane] = static_cast<uint8_t>(v[lane]);
  }
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
