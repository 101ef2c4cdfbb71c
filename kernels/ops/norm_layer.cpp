// LayerNormalization and RMSNormalization: the rows are the trailing dims from an axis on.
//
// A row is read three times (mean, deviation, result), from the second time on from L1; four sums hide the latency of
// the addition. 256 floats take about 0.06 us, of which the horizontal sums and the square root are half.
//
// layer_norm   in: x, scale?, bias?   out: y, mean?, inverse deviation?   ints: axis   floats: epsilon
// rms_norm     in: x, scale?          out: y, inverse root mean square?   ints: axis   floats: epsilon
// Dims of scale and bias are those of the row, or 1s; stashed results are float32, or float64 of float64.
#include <algorithm>
#include <cmath>

#include "ops/norm_vectors.h"

namespace graphopt {
namespace {

// One value for each element of a row, or none.
struct Factor {
  Loop<1> loop;
  DType dtype = DType::kUndefined;
  bool ready = false;     // contiguous and of the type that is computed in
  int64_t offset = 0;     // of its expanded form in scratch memory
};

struct Params {
  RowPlan rows;
  Factor scale, bias;
  double epsilon = 0;
  bool centred = true;
  int mean = -1, inverse = -1;  // outputs
};

template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class C>
C element(const char* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kDouble: return static_cast<C>(reinterpret_cast<const double*>(data)[i]);
    case DType::kFloat16: return to_float(reinterpret_cast<const f16*>(data)[i]);
    case DType::kBfloat16: return to_float(reinterpret_cast<const bf16*>(data)[i]);
    default: return reinterpret_cast<const float*>(data)[i];
  }
}

template <class C>
const C* expanded(const Factor& f, Tensor* const* t, Worker& w) {
  if (f.dtype == DType::kUndefined) return nullptr;
  if (f.ready) return (*t)->as<C>();
  C* all = reinterpret_cast<C*>(w.scratch + f.offset);
  C* next = all;
  walk<1>(f.loop, 0, f.loop.count, [&](const int64_t(&at)[1]) { *next++ = element<C>((*t)->data, f.dtype, at[0]); });
  return all;
}

struct Moments {
  double mean, inverse;
};

template <class T>
Moments normalize_row(const T* x, T* y, int64_t n, const Params& p, const float* scale, const float* bias) {
  const RowMoments of = moments_of(x, n, p.centred, static_cast<float>(p.epsilon));
  normalized(x, n, of, scale, bias, [y](int64_t i, vf v, int lanes) {
    if (lanes == kLanes) store(y + i, v);
    else store_first(y + i, v, lanes);
  });
  return {of.mean, of.inverse};
}

template <>
Moments normalize_row(const double* x, double*, int64_t, const Params&, const float*, const float*) = delete;

Moments normalize_row(const double* x, double* y, int64_t n, const Params& p, const double* scale, const double* bias) {
  const auto average = [&](const auto& f) {
    double total = 0;
    for (int64_t i = 0; i < n;) {
      double s[4] = {};
      for (const int64_t end = std::min(n, i + 256); i < end; ++i) s[i % 4] += f(x[i]);
      total += (s[0] + s[1]) + (s[2] + s[3]);
    }
    return total / static_cast<double>(n);
  };
  const double mean = p.centred ? average([](double v) { return v; }) : 0;
  const double square = average([mean](double v) { return (v - mean) * (v - mean); });
  const double inverse = 1.0 / std::sqrt(square + p.epsilon);
  for (int64_t i = 0; i < n; ++i)
    y[i] = (x[i] - mean) * inverse * (scale ? scale[i] : 1.0) + (bias ? bias[i] : 0.0);
  return {mean, inverse};
}

template <class T>
void run(const Instr& instr, Worker& w) {
  using C = Compute<T>;
  const Params& p = instr.as<Params>();
  const C* scale = expanded<C>(p.scale, instr.in + 1, w);
  const C* bias = expanded<C>(p.bias, instr.in + 2, w);
  C* means = p.mean < 0 ? nullptr : instr.out[p.mean]->as<C>();
  C* inverses = p.inverse < 0 ? nullptr : instr.out[p.inverse]->as<C>();
  over_rows<T>(p.rows, *instr.in[0], *instr.out[0], w, [&](const T* x, T* y, int64_t row) {
    const Moments found = normalize_row(x, y, p.rows.length, p, scale, bias);
    if (means) means[row] = static_cast<C>(found.mean);
    if (inverses) inverses[row] = static_cast<C>(found.inverse);
  });
}

Factor plan_factor(Bind& b, const char* name, int input, const Tensor& x, int axis) {
  Factor f;
  if (!b.has(input)) return f;
  const Tensor& t = *b.in[input];
  if (!is_real(t.dtype)) b.host->fail("%s: element type %d of input %d", name, static_cast<int>(t.dtype), input);
  const int shift = x.rank - t.rank;
  for (int i = 0; i < x.rank; ++i) {
    const int64_t dim = i < shift ? 1 : t.dims[i - shift];
    if (dim != 1 && (i < axis || dim != x.dims[i]))
      b.host->fail("%s: dim %lld of input %d on dim %lld of the rows", name, static_cast<long long>(dim), input,
                   static_cast<long long>(x.dims[i]));
    if (i >= axis) f.loop.add(x.dims[i], {dim == 1 ? 0 : t.strides[i - shift]});
  }
  f.dtype = t.dtype;
  const bool same = (x.dtype == DType::kDouble) == (t.dtype == DType::kDouble) && size_of(t.dtype) >= 4;
  f.ready = same && f.loop.rank == 1 && f.loop.strides[0][0] == 1;
  f.offset = b.scratch;
  if (!f.ready) b.need_scratch((b.scratch + f.loop.count * 8 + 63) / 64 * 64);
  return f;
}

Run prepare(Bind& b, const char* name, bool centred) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  if (!same_dims(x, y) || x.dtype != y.dtype) b.host->fail("%s: the result is not like the input", name);
  const int axis = axis_of(b, name, b.ints[0], x.rank);
  Params& p = b.make<Params>();
  p.rows = plan_rows(b, x, y, axis, x.rank);
  p.scale = plan_factor(b, name, 1, x, axis);
  if (centred) p.bias = plan_factor(b, name, 2, x, axis);
  p.epsilon = b.floats[0];
  for (int i = 1; i < b.n_out; ++i)
    if (b.out[i] && b.out[i]->dtype != (x.dtype == DType::kDouble ? DType::kDouble : DType::kFloat))
      b.host->fail("%s: a statistic of element type %d", name, static_cast<int>(b.out[i]->dtype));
  p.centred = centred;
  const int inverse = centred ? 2 : 1;
  if (centred && b.n_out > 1 && b.out[1]) p.mean = 1;
  if (b.n_out > inverse && b.out[inverse]) p.inverse = inverse;
  return for_float(b, name, x.dtype, []<class T>() -> Run { return run<T>; });
}

void shape(Bind& b) {
  const Tensor& x = *b.in[0];
  const int axis = axis_of(b, "normalization", b.ints[0], x.rank);
  for (int k = 0; k < b.n_out; ++k) {
    if (b.out[k] == nullptr) continue;
    b.out[k]->rank = x.rank;
    for (int i = 0; i < x.rank; ++i) b.out[k]->dims[i] = k > 0 && i >= axis ? 1 : x.dims[i];
  }
}

const RegisterKernel layer_norm{"layer_norm", [](Bind& b) { return prepare(b, "layer_norm", true); }, shape};
const RegisterKernel rms_norm{"rms_norm", [](Bind& b) { return prepare(b, "rms_norm", false); }, shape};

}  // namespace
}  // namespace graphopt
