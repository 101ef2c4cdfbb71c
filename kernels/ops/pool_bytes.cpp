// Max pooling of 8-bit images with channels innermost: a vector of channels at a time.
//
// Output rows in parallel, then positions, vectors of channels, taps; as `run_pool_channels` for floats.
#include <limits>

#include "ops/pool.h"
#include "simd/vector.h"

namespace graphopt {
namespace {

template <class T>
void max_of_window(const PoolParams& p, const int64_t at[kWindowAxes], const T* x, T* y) {
  typedef T line __attribute__((vector_size(kVectorBytes)));
  for (int64_t c = 0; c < p.channels; c += kVectorBytes) {
    const auto count = static_cast<size_t>(p.channels - c < kVectorBytes ? p.channels - c : kVectorBytes);
    line most = line{} + std::numeric_limits<T>::lowest();
    p.for_taps(at, [&](int64_t offset, int64_t) {
      line v{};
      if (count == kVectorBytes) std::memcpy(&v, x + offset + c, kVectorBytes);
      else std::memcpy(&v, x + offset + c, count);
      most = v > most ? v : most;
    });
    if (count == kVectorBytes) std::memcpy(y + c, &most, kVectorBytes);
    else std::memcpy(y + c, &most, count);
  }
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
