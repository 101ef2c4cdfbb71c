// Pooling of float32 images with channels innermost: a vector of channels at a time.
//
// Output rows in parallel (and blocks of channels where rows are few), then positions, vectors of channels, taps: the
// result of a position stays in registers. Bound by the reads of L1 and L2.
#include "ops/pool.h"
#include "simd/math.h"
#include "simd/vector.h"

namespace graphopt {
namespace {

struct MaxOf {
  static vf start() { return broadcast(-__builtin_inff()); }
  static vf add(vf most, vf v) { return (vf)((vi)(v > most) | (vi)(v != v) ? (vi)v : (vi)most); }
};
struct SumOf {
  static vf start() { return vf{}; }
  static vf add(vf sum, vf v) { return sum + v; }
};
struct SquaresOf {
  static vf start() { return vf{}; }
  static vf add(vf sum, vf v) { return sum + v * v; }
};
struct MagnitudesOf {
  static vf start() { return vf{}; }
  static vf add(vf sum, vf v) { return sum + abs(v); }
};

// What follows the sum of a window.
struct PoolEnd {
  float factor;
  bool root;
  vf operator()(vf v) const {
    v = v * factor;
    return root ? sqrt(v) : v;
  }
};

template <class Of> void pool_position(const PoolParams& p, const int64_t at[kWindowAxes], const float* x, float* y, int64_t first,
                                       int64_t last, bool ends, const PoolEnd& end) {
  constexpr int kVectors = 4;
  int64_t c = first;
  for (; c + kVectors * kLanes <= last; c += kVectors * kLanes) {
    vf acc[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) acc[j] = Of::start();
    p.for_taps(at, [&](int64_t offset, int64_t) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) acc[j] = Of::add(acc[j], load(x + offset + c + j * kLanes));
    });
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) store(y + c + j * kLanes, ends ? end(acc[j]) : acc[j]);
  }
  for (; c < last; c += kLanes) {
    const int rest = static_cast<int>(last - c < kLanes ? last - c : kLanes);
    vf acc = Of::start();
    p.for_taps(at, [&](int64_t offset, int64_t) { acc = Of::add(acc, load_first(x + offset + c, rest)); });
    store_first(y + c, ends ? end(acc) : acc, rest);
  }
}

template <class Of> void pool_rows(const Instr& instr, Worker& worker, bool ends, bool root) {
  const PoolParams& p = instr.as<PoolParams>();
  const Window& g = p.window;
  const int64_t blocks = p.channel_blocks;
  worker.parallel(p.batch * g.out[0] * g.out[1] * blocks, 1, [&](int64_t begin, int64_t stop, Worker&) {
    for (int64_t i = begin; i < stop; ++i) {
      const int64_t row = i / blocks, block = i % blocks;
      const int64_t first = p.channels * block / blocks / kLanes * kLanes;
      const int64_t last = block + 1 == blocks ? p.channels : p.channels * (block + 1) / blocks / kLanes * kLanes;
      int64_t at[kWindowAxes] = {row / g.out[1] % g.out[0], row % g.out[1], 0};
      const int64_t n = row / g.out[1] / g.out[0];
      const float* x = instr.in[0]->as<float>() + n * p.x_batch;
      float* y = instr.out[0]->as<float>() + n * p.y_batch + at[0] * g.y[0] + at[1] * g.y[1];
      for (; at[2] < g.out[2]; ++at[2]) {
        PoolEnd end{1.0f, root};
        if (ends && !root) {
          const int64_t count = p.kind == Pooling::kAverage ? p.divisor(at) : 1;
          end.factor = count > 0 ? 1.0f / static_cast<float>(count) : 0.0f;
        }
        pool_position<Of>(p, at, x, y + at[2] * g.y[2], first, last, ends, end);
      }
    }
  });
}

}  // namespace

void run_pool_channels(const Instr& instr, Worker& worker) {
  const PoolParams& p = instr.as<PoolParams>();
  if (p.kind == Pooling::kMax) pool_rows<MaxOf>(instr, worker, false, false);
  else if (p.kind == Pooling::kAverage) pool_rows<SumOf>(instr, worker, true, false);
  else if (p.p == 2) pool_rows<SquaresOf>(instr, worker, true, true);
  else pool_rows<MagnitudesOf>(instr, worker, false, false);
}

}  // namespace graphopt
