// What follows the sums of a convolution: a residual and an activation, in either order.
#pragma once
#include <cmath>
#include <limits>

#include "ops/gemm_end.h"

namespace graphopt {

struct ConvEnd {
  Activation kind = Activation::kNone;
  bool residual_last = false;  // after the activation
  double p = 0, q = 0;

  // Relu and clip are bounds of the sums; others are a pass over a finished tile.
  bool is_bounds() const { return kind <= Activation::kClip; }
  double low() const {
    return kind == Activation::kRelu ? 0 : kind == Activation::kClip ? p : -std::numeric_limits<double>::infinity();
  }
  double high() const { return kind == Activation::kClip ? q : std::numeric_limits<double>::infinity(); }
};

// ints from the i-th: the activation and whether the residual comes after it; floats: p, q. All may be absent.
inline ConvEnd read_conv_end(const Bind& b, int i) {
  ConvEnd end;
  if (i < b.n_ints) end.kind = static_cast<Activation>(b.ints[i]);
  if (i + 1 < b.n_ints) end.residual_last = b.ints[i + 1] != 0;
  if (b.n_floats > 0) end.p = b.floats[0];
  if (b.n_floats > 1) end.q = b.floats[1];
  return end;
}

// One value, for plain kernels. A NaN stays a NaN.
template <class T> inline T activate(const ConvEnd& end, T v) {
  const T p = static_cast<T>(end.p), q = static_cast<T>(end.q);
  auto clip = [](T value, T low, T high) {
    value = low > value ? low : value;
    return high < value ? high : value;
  };
  auto softplus = [](T value) { return value > T(20) ? value + std::exp(-value) : std::log1p(std::exp(value)); };
  switch (end.kind) {
    case Activation::kRelu: return T(0) > v ? T(0) : v;
    case Activation::kClip: return clip(v, p, q);
    case Activation::kLeakyRelu: return v < T(0) ? v * p : v;
    case Activation::kSigmoid: return T(1) / (T(1) + std::exp(-v));
    case Activation::kTanh: return std::tanh(v);
    case Activation::kGelu: return T(0.5) * v * (T(1) + std::erf(v * T(0.70710678118654752)));
    case Activation::kGeluTanh:
      return T(0.5) * v * (T(1) + std::tanh(T(0.79788456080286536) * (v + T(0.044715) * v * v * v)));
    case Activation::kSilu: return v / (T(1) + std::exp(-p * v));
    case Activation::kHardSigmoid: return clip(p * v + q, T(0), T(1));
    case Activation::kHardSwish: return v * clip(v * T(1.0 / 6) + T(0.5), T(0), T(1));
    case Activation::kElu: return v < T(0) ? p * std::expm1(v) : v;
    case Activation::kSoftplus: return softplus(v);
    case Activation::kMish: return v * std::tanh(softplus(v));
    default: return v;
  }
}

}  // namespace graphopt
