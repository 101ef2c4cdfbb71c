// DynamicQuantizeLinear: a tensor's own range decides scale and zero point.
//
//   x [any dims] float32 -> y uint8, scale float32, zero point uint8
//
// Two passes over dense memory, each in pieces of at least 32 Ki elements a thread.
#include <cmath>

#include "ops/registry.h"
#include "simd/math.h"

namespace graphopt {
namespace {

constexpr int64_t kGrain = 32 << 10;
constexpr int kMaxThreads = 256;

struct Params {
  int64_t n;
};

struct Range {
  float low = 0, high = 0;  // always holds zero
};

Range range_of(const float* x, int64_t n) {
  vf low{}, high{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const vf v = load(x + i);
    low = min(v, low);
    high = max(v, high);
  }
  const vf v = load_first(x + i, static_cast<int>(n - i));
  return {min_of(min(v, low)), max_of(max(v, high))};
}

void quantize(const float* x, int64_t n, float scale, float zero, uint8_t* y) {
  for (int64_t i = 0; i < n; ++i) {
    float v = __builtin_rintf(x[i] / scale) + zero;
    v = v > 0 ? v : 0.0f;
    v = v < 255 ? v : 255.0f;
    y[i] = static_cast<uint8_t>(static_cast<int32_t>(v));
  }
}

void run(const Instr& i, Worker& w) {
  const int64_t n = i.as<Params>().n;
  const float* x = i.in[0]->as<float>();
  Range parts[kMaxThreads];
  w.parallel(n, kGrain, [&](int64_t begin, int64_t end, Worker& at) {
    Range& mine = parts[at.index];
    const Range found = range_of(x + begin, end - begin);
    mine = {std::fmin(mine.low, found.low), std::fmax(mine.high, found.high)};
  });
  Range all;
  for (int t = 0; t < w.threads; ++t) all = {std::fmin(all.low, parts[t].low), std::fmax(all.high, parts[t].high)};
  const float scale = all.high == all.low ? 1.0f : (all.high - all.low) / 255.0f;
  float zero = 0.0f - all.low / scale;
  zero = __builtin_rintf(zero < 0 ? 0.0f : zero > 255 ? 255.0f : zero);
  *i.out[1]->as<float>() = scale;
  *i.out[2]->as<uint8_t>() = static_cast<uint8_t>(zero);
  uint8_t* y = i.out[0]->as<uint8_t>();
  w.parallel(n, kGrain, [&](int64_t begin, int64_t end, Worker&) {
    quantize(x + begin, end - begin, scale, zero, y + begin);
  });
}

Run prepare(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  if (x.dtype != DType::kFloat) b.host->fail("element type %d is not float32", static_cast<int>(x.dtype));
  if (!x.is_dense() || !y.is_dense()) b.host->fail("operands are not dense");
  const auto given = static_cast<long long>(x.count());
  if (x.count() != y.count()) b.host->fail("%lld elements in, %lld out", given, static_cast<long long>(y.count()));
  if (b.threads > kMaxThreads) b.host->fail("more than %d threads", kMaxThreads);
  b.make<Params>().n = x.count();
  return run;
}

void shape(Bind& b) {
  b.out[0]->rank = b.in[0]->rank;
  for (int i = 0; i < b.in[0]->rank; ++i) b.out[0]->dims[i] = b.in[0]->dims[i];
  b.out[1]->rank = b.out[2]->rank = 0;
}

const RegisterKernel kernel{"dynamic_quantize", prepare, shape};

}  // namespace
}  // namespace graphopt
