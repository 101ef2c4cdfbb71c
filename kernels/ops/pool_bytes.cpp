// Max pooling of 8-bit images with channels innermost: a vector of channels at a time.
//
// Output rows in parallel, then positions, vectors of channels, taps; as `run_pool_channels` for floats.
#include <limits>

#include "ops/pool.h"
#include "simd/vector.h"

namespace graphopt {
namespace {

// Of the channels from c on, as many as a `line` has, or `count` where that is fewer.
template <int bytes, class T>
GRAPHOPT_INLINE void max_of_line(const PoolParams& p, const int64_t at[kWindowAxes], const T* x, T* y, int64_t c, size_t count) {
  typedef T line __attribute__((vector_size(bytes)));
  line most = line{} + std::numeric_limits<T>::lowest();
  p.for_taps(at, [&](int64_t offset, int64_t) {
    line v{};
    std::memcpy(&v, x + offset + c, count);
    most = v > most ? v : most;
  });
  std::memcpy(y + c, &most, count);
}

template <class T>
void max_of_window(const PoolParams& p, const int64_t at[kWindowAxes], const T* x, T* y) {
  int64_t c = 0;
  for (; c + kVectorBytes <= p.channels; c += kVectorBytes) max_of_line<kVectorBytes>(p, at, x, y, c, kVectorBytes);
  for (; c + 16 <= p.channels; c += 16) max_of_line<16>(p, at, x, y, c, 16);
  if (c < p.channels) max_of_line<16>(p, at, x, y, c, static_cast<size_t>(p.channels - c));
}

}  // namespace

template <class T>
void run_max_bytes(const Instr& instr, Worker& worker) {
  const PoolParams& p = instr.as<PoolParams>();
  const Window& g = p.window;
  worker.parallel(p.batch * g.out[0] * g.out[1], 1, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t row = begin; row < end; ++row) {
      int64_t at[kWindowAxes] = {row / g.out[1] % g.out[0], row % g.out[1], 0};
      const int64_t n = row / g.out[1] / g.out[0];
      const T* x = instr.in[0]->as<T>() + n * p.x_batch;
      T* y = instr.out[0]->as<T>() + n * p.y_batch + at[0] * g.y[0] + at[1] * g.y[1];
      for (; at[2] < g.out[2]; ++at[2]) max_of_window<T>(p, at, x, y + at[2] * g.y[2]);
    }
  });
}

template void run_max_bytes<int8_t>(const Instr&, Worker&);
template void run_max_bytes<uint8_t>(const Instr&, Worker&);

}  // namespace graphopt
