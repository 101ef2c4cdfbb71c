// Normalizations that know channels (dim 1): group and instance normalization, batch normalization, LRN.
//
// group_norm   in: x [N, C, ...], scale, bias ([C], or one a group)   out: y   ints: groups   floats: epsilon
//              dense; a group is summed twice (mean, deviation), then written channel by channel
// batch_norm   in: x [N, C, ...], scale, bias, mean, variance [C]     out: y                  floats: epsilon
//              any strides; one multiply-add an element, by rows inside a channel or, channels innermost, across them
// lrn          in: x [N, C, ...]   out: y   ints: size   floats: alpha, beta, bias
//              dense; vectors of neighbouring pixels, the window summed anew for each channel
#include <algorithm>
#include <cmath>

#include "ops/norm_rows.h"
#include "simd/math.h"

namespace graphopt {
namespace {

template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class C>
C element(const Tensor& t, int64_t i) {
  const int64_t at = t.rank == 0 ? 0 : i * t.strides[0];
  switch (t.dtype) {
    case DType::kDouble: return static_cast<C>(t.as<double>()[at]);
    case DType::kFloat16: return to_float(t.as<f16>()[at]);
    case DType::kBfloat16: return to_float(t.as<bf16>()[at]);
    default: return t.as<float>()[at];
  }
}

void check_vector(Bind& b, const char* name, int input, int64_t size, int64_t other) {
  const Tensor& t = *b.in[input];
  if (!is_real(t.dtype) || t.rank != 1 || (t.dims[0] != size && t.dims[0] != other))
    b.host->fail("%s: input %d has %lld elements of type %d, wanted %lld", name, input, static_cast<long long>(t.count()),
                 static_cast<int>(t.dtype), static_cast<long long>(size));
}

// y = x * a + b for a run of elements.
template <class T>
void scale_row(const T* x, T* y, int64_t n, float a, float b) {
  const vf va = broadcast(a), vb = broadcast(b);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i) * va + vb);
  if (const int rest = static_cast<int>(n - i)) store_first(y + i, load_first(x + i, rest) * va + vb, rest);
}
void scale_row(const double* x, double* y, int64_t n, double a, double b) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * a + b;
}

// The mean of (x - centre), or of its square, in parts of kPart elements.
template <bool kSquare, class T>
float mean_of(const T* x, int64_t n, float centre) {
  constexpr int64_t kPart = 64 * kLanes;
  const vf m = broadcast(centre);
  const auto term = [&](vf v) { return kSquare ? (v - m) * (v - m) : v - m; };
  double total = 0;
  for (int64_t i = 0; i < n;) {
    const int64_t end = std::min(n, i + kPart);
    vf s[4] = {};
    for (; i + 4 * kLanes <= end; i += 4 * kLanes)
      for (int k = 0; k < 4; ++k) s[k] += term(load(x + i + k * kLanes));
    for (; i + kLanes <= end; i += kLanes) s[0] += term(load(x + i));
    if (const int rest = static_cast<int>(end - i)) {
      s[1] += first_lanes(term(load_first(x + i, rest)), rest, vf{});
      i = end;
    }
    total += sum_of((s[0] + s[1]) + (s[2] + s[3]));
  }
  return static_cast<float>(total / static_cast<double>(n));
}
template <bool kSquare>
double mean_of(const double* x, int64_t n, double centre) {
  double total = 0;
  for (int64_t i = 0; i < n;) {
    double s[4] = {};
    for (const int64_t end = std::min(n, i + 256); i < end; ++i)
      s[i % 4] += kSquare ? (x[i] - centre) * (x[i] - centre) : x[i] - centre;
    total += (s[0] + s[1]) + (s[2] + s[3]);
  }
  return total / static_cast<double>(n);
}

struct GroupParams {
  int64_t batch, groups, channels, inner;  // channels of a group, elements of a channel
  bool per_group;
  double epsilon;
};

template <class T>
void run_group(const Instr& instr, Worker& w) {
  using C = Compute<T>;
  const GroupParams& p = instr.as<GroupParams>();
  const T* x = instr.in[0]->as<T>();
  T* y = instr.out[0]->as<T>();
  const int64_t size = p.channels * p.inner;
  w.parallel(p.batch * p.groups, 1 + kGrainElements / (size + 1), [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t i = begin; i < end; ++i) {
      const T* from = x + i * size;
      const C rough = mean_of<false>(from, size, C{0});
      const C mean = rough + mean_of<false>(from, size, rough);  // exact where the mean is large
      const C inverse = 1 / std::sqrt(mean_of<true>(from, size, mean) + static_cast<C>(p.epsilon));
      for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t group = i % p.groups, channel = p.per_group ? group : group * p.channels + c;
        const C a = inverse * element<C>(*instr.in[1], channel);
        scale_row(from + c * p.inner, y + i * size + c * p.inner, p.inner, a, element<C>(*instr.in[2], channel) - mean * a);
      }
    }
  });
}

Run prepare_group(Bind& b) {
  const Tensor& x = *b.in[0];
  const int64_t groups = b.ints[0];
  if (x.rank < 2 || (x.count() > 0 && (!x.is_dense() || !b.out[0]->is_dense())) || !same_dims(x, *b.out[0]) || x.dtype != b.out[0]->dtype)
    b.host->fail("group_norm: operands of rank %d that are not dense and alike", x.rank);
  if (groups <= 0 || x.dims[1] % groups != 0)
    b.host->fail("group_norm: %lld channels in %lld groups", static_cast<long long>(x.dims[1]), static_cast<long long>(groups));
  check_vector(b, "group_norm", 1, x.dims[1], groups);
  check_vector(b, "group_norm", 2, b.in[1]->dims[0], b.in[1]->dims[0]);
  GroupParams& p = b.make<GroupParams>();
  p = {x.dims[0], groups, x.dims[1] / groups, x.product(2, x.rank), b.in[1]->dims[0] != x.dims[1], b.floats[0]};
  return for_float(b, "group_norm", x.dtype, []<class T>() -> Run { return run_group<T>; });
}

struct BatchParams {
  Loop<3> outer;  // x, y, channel
  int64_t row, channels;
  bool across;    // rows run over the channels
  double epsilon;
};

template <class T>
void factor_row(const T* x, T* y, int64_t n, const float* a, const float* b) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i) * load(a + i) + load(b + i));
  if (const int rest = static_cast<int>(n - i))
    store_first(y + i, load_first(x + i, rest) * load_first(a + i, rest) + load_first(b + i, rest), rest);
}
void factor_row(const double* x, double* y, int64_t n, const double* a, const double* b) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * a[i] + b[i];
}

template <class T>
void run_batch(const Instr& instr, Worker& w) {
  using C = Compute<T>;
  const BatchParams& p = instr.as<BatchParams>();
  C* a = reinterpret_cast<C*>(w.scratch);
  C* b = a + p.channels;
  for (int64_t c = 0; c < p.channels; ++c) {
    a[c] = static_cast<C>(element<double>(*instr.in[1], c) / std::sqrt(element<double>(*instr.in[4], c) + p.epsilon));
    b[c] = static_cast<C>(element<double>(*instr.in[2], c) - element<double>(*instr.in[3], c) * static_cast<double>(a[c]));
  }
  const T* x = instr.in[0]->as<T>();
  T* y = instr.out[0]->as<T>();
  w.parallel(p.outer.count, 1 + kGrainElements / (p.row + 1), [&](int64_t begin, int64_t end, Worker&) {
    walk<3>(p.outer, begin, end, [&](const int64_t(&at)[3]) {
      if (p.across) factor_row(x + at[0], y + at[1], p.row, a, b);
      else scale_row(x + at[0], y + at[1], p.row, a[at[2]], b[at[2]]);
    });
  });
}

Run prepare_batch(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  if (x.rank < 1 || !same_dims(x, y) || x.dtype != y.dtype) b.host->fail("batch_norm: the result is not like the input");
  BatchParams& p = b.make<BatchParams>();
  p.channels = x.rank > 1 ? x.dims[1] : 1;
  p.epsilon = b.floats[0];
  for (int i = 1; i < 5; ++i) check_vector(b, "batch_norm", i, p.channels, p.channels);
  p.across = x.rank > 1 && x.strides[1] == 1 && y.strides[1] == 1;
  p.row = p.across ? p.channels : 1;
  int last = x.rank;  // dims from here on are one row inside a channel
  while (!p.across && last > 2 && x.strides[last - 1] == p.row && y.strides[last - 1] == p.row) p.row *= x.dims[--last];
  for (int i = 0; i < last; ++i)
    if (!p.across || i != 1) p.outer.add(x.dims[i], {x.strides[i], y.strides[i], i == 1 ? 1 : 0});
  b.need_scratch(p.channels * 16 + 64);
  return for_float(b, "batch_norm", x.dtype, []<class T>() -> Run { return run_batch<T>; });
}

struct LrnParams {
  int64_t batch, channels, inner, before, after;
  double factor, beta, bias;
};

template <class T>
void lrn_columns(const LrnParams& p, const T* x, T* y, int lanes) {
  for (int64_t c = 0; c < p.channels; ++c) {
    vf sum{};
    for (int64_t k = std::max<int64_t>(0, c - p.before); k <= std::min(p.channels - 1, c + p.after); ++k) {
      const vf v = lanes == kLanes ? load(x + k * p.inner) : load_first(x + k * p.inner, lanes);
      sum += v * v;
    }
    const vf base = sum * static_cast<float>(p.factor) + static_cast<float>(p.bias);
    const vf power = exp(log(base) * static_cast<float>(-p.beta));
    if (lanes == kLanes) store(y + c * p.inner, load(x + c * p.inner) * power);
    else store_first(y + c * p.inner, load_first(x + c * p.inner, lanes) * power, lanes);
  }
}
void lrn_columns(const LrnParams& p, const double* x, double* y, int lanes) {
  for (int64_t c = 0; c < p.channels; ++c)
    for (int i = 0; i < lanes; ++i) {
      double sum = 0;
      for (int64_t k = std::max<int64_t>(0, c - p.before); k <= std::min(p.channels - 1, c + p.after); ++k)
        sum += x[k * p.inner + i] * x[k * p.inner + i];
      y[c * p.inner + i] = x[c * p.inner + i] / std::pow(p.bias + p.factor * sum, p.beta);
    }
}

template <class T>
void run_lrn(const Instr& instr, Worker& w) {
  const LrnParams& p = instr.as<LrnParams>();
  const int64_t blocks = (p.inner + kLanes - 1) / kLanes;
  w.parallel(p.batch * blocks, 1 + kGrainElements / (8 * kLanes * (p.channels + 1)), [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i / blocks * p.channels * p.inner + i % blocks * kLanes;
      lrn_columns(p, instr.in[0]->as<T>() + at, instr.out[0]->as<T>() + at,
                  static_cast<int>(std::min<int64_t>(kLanes, p.inner - i % blocks * kLanes)));
    }
  });
}

Run prepare_lrn(Bind& b) {
  const Tensor& x = *b.in[0];
  if (x.rank < 2 || (x.count() > 0 && (!x.is_dense() || !b.out[0]->is_dense())) || !same_dims(x, *b.out[0]) || x.dtype != b.out[0]->dtype)
    b.host->fail("lrn: operands of rank %d that are not dense and alike", x.rank);
  const int64_t size = b.ints[0];
  LrnParams& p = b.make<LrnParams>();
  p = {x.dims[0], x.dims[1], x.product(2, x.rank), (size - 1) / 2, size / 2, b.floats[0] / static_cast<double>(size),
       b.floats[1], b.floats[2]};
  return for_float(b, "lrn", x.dtype, []<class T>() -> Run { return run_lrn<T>; });
}

const RegisterKernel group_norm{"group_norm", prepare_group, shape_like_input};
const RegisterKernel batch_norm{"batch_norm", prepare_batch, shape_like_input};
const RegisterKernel lrn{"lrn", prepare_lrn, shape_like_input};

}  // namespace
}  // namespace graphopt
