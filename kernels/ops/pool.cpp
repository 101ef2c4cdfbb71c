// Max, average and Lp pooling of any layout and element type, and max pooling's inverse.
//
// Plain form: planes in parallel, positions, taps. Images of floats and bytes with channels innermost have kernels of
// their own.
// A NaN in a window is the window's maximum.
#include "ops/pool.h"

#include <cmath>
#include <limits>

#include "ops/float_types.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// ints: kind, auto_pad, ceil_mode, count_include_pad, storage_order, p, window; in: x; out: y, indices?
constexpr int kFixedInts = 6;

template <class T> struct Ordered { typedef T type; };
template <> struct Ordered<f16> { typedef float type; };
template <> struct Ordered<bf16> { typedef float type; };
template <class T> typename Ordered<T>::type ordered(T v) { return v; }
inline float ordered(f16 v) { return to_float(v); }
inline float ordered(bf16 v) { return to_float(v); }

template <class T> T least() {
  if constexpr (std::numeric_limits<T>::has_infinity) return -std::numeric_limits<T>::infinity();
  else return std::numeric_limits<T>::lowest();
}

template <class T, class F> void for_positions(const Instr& instr, Worker& worker, const F& f) {
  const PoolParams& p = instr.as<PoolParams>();
  const Window& g = p.window;
  worker.parallel(p.batch * p.channels, 1, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t n = plane / p.channels, c = plane % p.channels;
      const T* x = instr.in[0]->as<T>() + n * p.x_batch + c * p.x_channel;
      T* y = instr.out[0]->as<T>() + n * p.y_batch + c * p.y_channel;
      int64_t at[kWindowAxes];
      for (at[0] = 0; at[0] < g.out[0]; ++at[0])
        for (at[1] = 0; at[1] < g.out[1]; ++at[1])
          for (at[2] = 0; at[2] < g.out[2]; ++at[2])
            f(p, x, at, plane, y[at[0] * g.y[0] + at[1] * g.y[1] + at[2] * g.y[2]]);
    }
  });
}

template <class T> void run_max(const Instr& instr, Worker& worker) {
  const Tensor* indices = instr.as<PoolParams>().has_indices ? instr.out[1] : nullptr;
  for_positions<T>(instr, worker, [&](const PoolParams& p, const T* x, const int64_t* at, int64_t plane, T& y) {
    auto most = least<typename Ordered<T>::type>();
    T found{};
    int64_t where = -1;
    p.for_taps(at, [&](int64_t offset, int64_t index) {
      const auto v = ordered(x[offset]);
      if (where >= 0 && !(v > most) && (v == v || most != most)) return;
      most = v, found = x[offset], where = index;
    });
    if (where < 0) {
      if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) from_float(most, found);
      else found = most;
    }
    y = found;
    if (indices == nullptr) return;
    int64_t to = plane / p.channels * indices->strides[0] + plane % p.channels * indices->strides[1];
    for (int a = 0; a < p.window.rank; ++a) to += at[kWindowAxes - p.window.rank + a] * indices->strides[2 + a];
    indices->as<int64_t>()[to] = plane * p.window.in_size() + where;
  });
}

template <class T> void run_average(const Instr& instr, Worker& worker) {
  for_positions<T>(instr, worker, [&](const PoolParams& p, const T* x, const int64_t* at, int64_t, T& y) {
    Compute<T> sum = 0;
    p.for_taps(at, [&](int64_t offset, int64_t) { sum += value_of(x[offset]); });
    const int64_t count = p.divisor(at);
    y = element_of<T>(count > 0 ? sum / static_cast<Compute<T>>(count) : Compute<T>(0));
  });
}

template <class T> void run_lp(const Instr& instr, Worker& worker) {
  for_positions<T>(instr, worker, [&](const PoolParams& p, const T* x, const int64_t* at, int64_t, T& y) {
    Compute<T> sum = 0;
    const auto power = static_cast<Compute<T>>(p.p);
    if (p.p == 2) {
      p.for_taps(at, [&](int64_t offset, int64_t) { sum += value_of(x[offset]) * value_of(x[offset]); });
      sum = std::sqrt(sum);
    } else {
      p.for_taps(at, [&](int64_t offset, int64_t) { sum += std::pow(std::abs(value_of(x[offset])), power); });
      sum = std::pow(sum, 1 / power);
    }
    y = element_of<T>(sum);
  });
}

Window read_pool_window(Bind& b) {
  const int r = b.in[0]->rank - 2;
  if (r >= 1 && r <= kWindowAxes && b.n_ints < kFixedInts + window_ints(r))
    b.host->fail("pooling of %d axes needs %d integers", r, kFixedInts + window_ints(r));
  return read_window(b, *b.in[0], b.ints + kFixedInts, static_cast<AutoPad>(b.ints[1]));
}

Run choose_run(Bind& b, const PoolParams& p) {
  const DType dtype = b.in[0]->dtype;
  const bool last = (p.channels == 1 || p.x_channel == 1) && (p.channels == 1 || p.y_channel == 1);
  if (dtype == DType::kFloat && last && !p.has_indices && (p.kind != Pooling::kLp || p.p == 2 || p.p == 1)) return run_pool_channels;
  if (p.kind == Pooling::kAverage) return GRAPHOPT_FOR_FLOATS(dtype, run_average);
  if (p.kind == Pooling::kLp) return GRAPHOPT_FOR_FLOATS(dtype, run_lp);
  if (dtype == DType::kInt8) return last && !p.has_indices ? run_max_bytes<int8_t> : run_max<int8_t>;
  if (dtype == DType::kUint8) return last && !p.has_indices ? run_max_bytes<uint8_t> : run_max<uint8_t>;
  return GRAPHOPT_FOR_FLOATS(dtype, run_max);
}

Run prepare_pool(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  auto& p = b.make<PoolParams>();
  p.window = read_pool_window(b);
  p.kind = static_cast<Pooling>(b.ints[0]);
  const bool ceil_mode = b.ints[2] != 0;
  p.has_indices = b.n_out > 1 && b.out[1] != nullptr;
  p.counts_padding = b.ints[3] != 0, p.columns_first = b.ints[4] != 0, p.p = static_cast<double>(b.ints[5]);
  p.batch = x.dims[0], p.channels = x.dims[1];
  p.x_batch = x.strides[0], p.x_channel = x.strides[1], p.y_batch = y.strides[0], p.y_channel = y.strides[1];
  take_output(b, p.window, x, p.channels, ceil_mode, y);
  const int64_t rows = p.batch * p.window.out[0] * p.window.out[1];
  p.channel_blocks = rows > 0 && rows < 4 * b.threads && b.threads > 1 ? 4 * b.threads : 1;
  const Run run = choose_run(b, p);
  if (run == nullptr) b.host->fail("pooling does not take element type %d", static_cast<int>(x.dtype));
  return run;
}

void shape_pool(Bind& b) {
  const Window w = read_pool_window(b);
  for (int i = 0; i < b.n_out; ++i)
    if (b.out[i] != nullptr) set_window_dims(w, *b.in[0], b.in[0]->dims[1], b.ints[2] != 0, *b.out[i]);
}

const RegisterKernel pool{"pool", prepare_pool, shape_pool};

}  // namespace
}  // namespace graphopt
