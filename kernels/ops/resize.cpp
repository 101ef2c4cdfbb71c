// Resize and Upsample of any rank, layout and element type.
//
// Interpolation is a product over axes. For each line of the output along the last resized axis the lines of the input
// that the other axes select are summed with their weights into scratch, then the line is resized; elements that lie
// side by side in both tensors (channels, where they are innermost) are carried along. Jobs in parallel.
#include "ops/resize.h"

#include <algorithm>
#include <cmath>

#include "ops/float_types.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// ints: mode, coordinates, rounding, exclude_outside, antialias, policy, axes in use, axes...
// floats: cubic_a, extrapolation, then for each axis in use scale (0: from sizes), roi begin, roi end
// in: x, scales?, sizes?: where they are not known before the run
constexpr int kFixedInts = 7, kFixedFloats = 2;

struct ResizeParams {
  int rank, line, block;  // the line's axis; the axis that is carried along, or -1
  int64_t jobs;
  ResizedAxis axes[kMaxRank];
  bool is_resized[kMaxRank];
  int64_t combinations;  // of taps of the resized axes but the line
  double extrapolation;
  bool extrapolates, rounds;
  int64_t line_size, block_size;
};

struct Sizes {
  int64_t dims[kMaxRank];
  float scale[kMaxRank], roi_begin[kMaxRank], roi_end[kMaxRank];
  bool is_used[kMaxRank], is_scaled[kMaxRank];  // is_scaled: the scale is given, not the size
};

double number_at(const Tensor& t, int64_t i) {
  if (t.dtype == DType::kInt64) return static_cast<double>(t.as<int64_t>()[i * t.strides[0]]);
  return t.dtype == DType::kDouble ? t.as<double>()[i * t.strides[0]] : static_cast<double>(t.as<float>()[i * t.strides[0]]);
}

// Dims of the output and scales of all axes; `y`: its dims where they are known.
Sizes read_sizes(Bind& b, const Tensor* y) {
  const Tensor& x = *b.in[0];
  Sizes s{};
  for (int i = 0; i < x.rank; ++i) s.dims[i] = x.dims[i], s.scale[i] = 1, s.roi_end[i] = 1;
  const auto n = static_cast<int>(b.ints[6]);
  const auto policy = static_cast<AspectRatio>(b.ints[5]);
  const bool crops = static_cast<Coordinates>(b.ints[1]) == Coordinates::kTfCropAndResize;
  if (n > x.rank || b.n_ints < kFixedInts + n || b.n_floats < kFixedFloats + 3 * n)
    b.host->fail("resize of %d axes of a tensor of rank %d", n, x.rank);
  for (int k = 1; k <= 2; ++k)
    if (b.has(k) && b.in[k]->count() != n)
      b.host->fail("resize of %d axes got %lld %s", n, static_cast<long long>(b.in[k]->count()), k == 1 ? "scales" : "sizes");
  double common = 0;
  for (int k = 0; k < n; ++k) {
    const int a = static_cast<int>(b.ints[kFixedInts + k] < 0 ? b.ints[kFixedInts + k] + x.rank : b.ints[kFixedInts + k]);
    if (a < 0 || a >= x.rank) b.host->fail("resize: axis %d of a tensor of rank %d", a, x.rank);
    const double* of = b.floats + kFixedFloats + 3 * k;
    s.is_used[a] = true;
    s.roi_begin[a] = static_cast<float>(of[1]), s.roi_end[a] = static_cast<float>(of[2]);
    s.scale[a] = static_cast<float>(b.has(1) ? number_at(*b.in[1], k) : of[0]);
    if (b.has(2)) s.dims[a] = static_cast<int64_t>(number_at(*b.in[2], k));
    else if (y != nullptr) s.dims[a] = y->dims[a];
    else if (crops) s.dims[a] = static_cast<int64_t>(std::floor(static_cast<float>(x.dims[a]) * (s.roi_end[a] - s.roi_begin[a]) * s.scale[a]));
    else s.dims[a] = static_cast<int64_t>(std::floor(static_cast<float>(x.dims[a]) * s.scale[a]));
    s.is_scaled[a] = b.has(1) || of[0] != 0;
    if (!s.is_scaled[a]) s.scale[a] = x.dims[a] > 0 ? static_cast<float>(s.dims[a]) / static_cast<float>(x.dims[a]) : 1.0f;
    const double ratio = static_cast<double>(s.dims[a]) / static_cast<double>(x.dims[a] > 0 ? x.dims[a] : 1);
    if (k == 0) common = ratio;
    common = policy == AspectRatio::kNotLarger ? std::min(common, ratio) : std::max(common, ratio);
  }
  if (policy != AspectRatio::kStretch)
    for (int a = 0; a < x.rank; ++a) {
      if (!s.is_used[a]) continue;
      s.scale[a] = static_cast<float>(common);
      s.dims[a] = static_cast<int64_t>(std::floor(common * static_cast<double>(x.dims[a]) + 0.5));
    }
  return s;
}

// Calls f(job's offset in x, in y, weights' axis positions) -- positions of all axes but line and block.
struct Job {
  int64_t at[kMaxRank];
  int64_t x, y;
  bool is_outside;
};

Job job_of(const ResizeParams& p, const Tensor& x, const Tensor& y, int64_t index) {
  Job job{};
  for (int a = p.rank - 1; a >= 0; --a) {
    if (a == p.line || a == p.block) continue;
    job.at[a] = index % y.dims[a];
    index /= y.dims[a];
    job.y += job.at[a] * y.strides[a];
    if (!p.is_resized[a]) job.x += job.at[a] * x.strides[a];
    else job.is_outside = job.is_outside || (p.extrapolates && p.axes[a].is_outside[job.at[a]]);
  }
  return job;
}

// The offset and the weight of one combination of taps.
double combination(const ResizeParams& p, const Tensor& x, const Job& job, int64_t index, int64_t* offset) {
  double weight = 1;
  *offset = job.x;
  for (int a = p.rank - 1; a >= 0; --a) {
    if (a == p.line || !p.is_resized[a]) continue;
    const ResizedAxis& axis = p.axes[a];
    const int64_t tap = job.at[a] * axis.taps + index % axis.taps;
    index /= axis.taps;
    weight *= axis.weight[tap];
    *offset += axis.index[tap] * x.strides[a];
  }
  return weight;
}

template <class T> Compute<T> as_compute(T v) {
  if constexpr (std::is_integral_v<T>) return static_cast<float>(v);
  else return value_of(v);
}

template <class T> T as_element(Compute<T> v, bool rounds) {
  if constexpr (std::is_integral_v<T>) {
    if (rounds) v = std::nearbyint(v);
    constexpr auto low = static_cast<double>(std::numeric_limits<T>::lowest()), high = static_cast<double>(std::numeric_limits<T>::max());
    return static_cast<T>(std::min(std::max(static_cast<double>(v), low), high));
  } else {
    return element_of<T>(v);
  }
}

template <class T> void run_resize(const Instr& instr, Worker& worker) {
  const ResizeParams& p = instr.as<ResizeParams>();
  const Tensor &x = *instr.in[0], &y = *instr.out[0];
  const ResizedAxis& axis = p.axes[p.line];
  const int64_t x_line = x.strides[p.line], y_line = y.strides[p.line], block = p.block_size;
  worker.parallel(p.jobs, 1, [&](int64_t begin, int64_t end, Worker& me) {
    auto* line = reinterpret_cast<Compute<T>*>(me.scratch);
    Compute<T>* sums = line + axis.in * block;
    for (int64_t i = begin; i < end; ++i) {
      const Job job = job_of(p, x, y, i);
      T* to = y.as<T>() + job.y;
      std::fill(line, line + axis.in * block, Compute<T>(0));
      for (int64_t k = 0; k < p.combinations; ++k) {
        int64_t offset;
        const auto weight = static_cast<Compute<T>>(combination(p, x, job, k, &offset));
        if (weight == 0) continue;
        const T* from = x.as<T>() + offset;
        for (int64_t w = 0; w < axis.in; ++w)
          for (int64_t e = 0; e < block; ++e) line[w * block + e] += weight * as_compute(from[w * x_line + e]);
      }
      for (int64_t o = 0; o < axis.out; ++o) {
        if (job.is_outside || (p.extrapolates && axis.is_outside[o])) {
          for (int64_t e = 0; e < block; ++e) to[o * y_line + e] = as_element<T>(static_cast<Compute<T>>(p.extrapolation), false);
          continue;
        }
        for (int64_t e = 0; e < block; ++e) sums[e] = 0;
        for (int64_t t = 0; t < axis.taps; ++t) {
          const auto weight = static_cast<Compute<T>>(axis.weight[o * axis.taps + t]);
          if (weight == 0) continue;
          const Compute<T>* from = line + axis.index[o * axis.taps + t] * block;
          for (int64_t e = 0; e < block; ++e) sums[e] += weight * from[e];
        }
        for (int64_t e = 0; e < block; ++e) to[o * y_line + e] = as_element<T>(sums[e], p.rounds);
      }
    }
  });
}

// Nearest neighbours without extrapolation: elements are copied.
template <class T> void run_nearest(const Instr& instr, Worker& worker) {
  const ResizeParams& p = instr.as<ResizeParams>();
  const Tensor &x = *instr.in[0], &y = *instr.out[0];
  const ResizedAxis& axis = p.axes[p.line];
  const int64_t x_line = x.strides[p.line], y_line = y.strides[p.line], block = p.block_size;
  worker.parallel(p.jobs, 1, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t i = begin; i < end; ++i) {
      const Job job = job_of(p, x, y, i);
      int64_t offset;
      combination(p, x, job, 0, &offset);
      const T* from = x.as<T>() + offset;
      T* to = y.as<T>() + job.y;
      for (int64_t o = 0; o < axis.out; ++o) {
        if (block == 1) to[o * y_line] = from[axis.index[o] * x_line];
        else std::memcpy(to + o * y_line, from + axis.index[o] * x_line, static_cast<size_t>(block) * sizeof(T));
      }
    }
  });
}

Run choose_run(DType dtype, bool copies) {
  if (copies)
    switch (size_of(dtype)) {
      case 1: return run_nearest<uint8_t>;
      case 2: return run_nearest<uint16_t>;
      case 4: return run_nearest<uint32_t>;
      case 8: return run_nearest<uint64_t>;
      default: return nullptr;
    }
  switch (dtype) {
    case DType::kUint8: return run_resize<uint8_t>;
    case DType::kInt8: return run_resize<int8_t>;
    case DType::kInt32: return run_resize<int32_t>;
    default: return GRAPHOPT_FOR_FLOATS(dtype, run_resize);
  }
}

void choose_axes(ResizeParams& p, const Tensor& x, const Tensor& y) {
  p.line = p.rank - 1;
  for (int a = 0; a < p.rank; ++a)
    if (p.is_resized[a]) p.line = a;
  p.block = -1, p.block_size = 1;
  for (int a = 0; a < p.rank; ++a)
    if (!p.is_resized[a] && a != p.line && x.strides[a] == 1 && y.strides[a] == 1 && y.dims[a] > 1) p.block = a, p.block_size = y.dims[a];
  p.jobs = p.combinations = 1;
  for (int a = 0; a < p.rank; ++a) {
    if (a != p.line && a != p.block) p.jobs = times(p.jobs, y.dims[a]);
    if (a != p.line && p.is_resized[a]) p.combinations *= p.axes[a].taps;
  }
}

Run prepare_resize(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  auto& p = b.make<ResizeParams>();
  const Sizes s = read_sizes(b, b.has(2) ? nullptr : &y);
  const ResizeSpec spec{static_cast<Interpolation>(b.ints[0]), static_cast<Coordinates>(b.ints[1]), static_cast<Rounding>(b.ints[2]),
                        b.ints[3] != 0, b.ints[4] != 0, static_cast<float>(b.floats[0])};
  p.rank = x.rank;
  p.extrapolation = b.floats[1];
  p.extrapolates = spec.coordinates == Coordinates::kTfCropAndResize;
  p.rounds = spec.antialias;
  const bool shifts = p.extrapolates || spec.coordinates == Coordinates::kTfHalfPixelForNn;
  for (int a = 0; a < p.rank; ++a) {
    if (y.rank != x.rank || y.dims[a] != s.dims[a])
      b.host->fail("resize: output axis %d has %lld elements, not %lld", a, static_cast<long long>(y.dims[a]), static_cast<long long>(s.dims[a]));
    p.is_resized[a] = s.is_used[a] && (shifts || s.dims[a] != x.dims[a] || s.scale[a] != 1);
    const auto length = s.is_scaled[a] ? s.scale[a] * static_cast<float>(x.dims[a]) : static_cast<float>(y.dims[a]);
    p.axes[a] = ResizedAxis{x.dims[a], y.dims[a], s.scale[a], s.roi_begin[a], s.roi_end[a], length, 1, nullptr, nullptr, nullptr};
    if (x.dims[a] == 0 && y.dims[a] != 0) b.host->fail("resize: axis %d is empty but its result is not", a);
  }
  const ResizeSpec same{Interpolation::kNearest, Coordinates::kAsymmetric, Rounding::kFloor, false, false, 0};
  if (p.rank == 0) b.host->fail("resize takes no scalars");
  for (int a = 0; a < p.rank; ++a) fill_axis(b, p.is_resized[a] ? spec : same, p.axes[a]);
  choose_axes(p, x, y);
  if (y.count() == 0) p.jobs = 0;
  const Run run = choose_run(x.dtype, spec.mode == Interpolation::kNearest && !p.extrapolates);
  if (run == nullptr) b.host->fail("resize does not take element type %d", static_cast<int>(x.dtype));
  b.need_scratch((p.axes[p.line].in + 1) * p.block_size * 8);
  return run;
}

void shape_resize(Bind& b) {
  const Sizes s = read_sizes(b, nullptr);
  b.out[0]->rank = b.in[0]->rank;
  for (int a = 0; a < b.in[0]->rank; ++a) b.out[0]->dims[a] = s.dims[a];
}

const RegisterKernel resize{"resize", prepare_resize, shape_resize};

}  // namespace
}  // namespace graphopt
