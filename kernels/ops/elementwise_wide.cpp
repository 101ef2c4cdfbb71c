// sin, cos, tan and pow of float32: in double, half a vector at a time; rare arguments go to the C library afterwards.
#include <cmath>

#include "ops/elementwise.h"
#include "simd/math.h"
#include "simd/wide.h"

namespace graphopt::elementwise {
namespace {

constexpr float kFar = 1 << 20;  // quarter turns are counted exactly up to here

struct Sine {
  static vd wide(vd x) { return sin_wide(x); }
  static float far(float x) { return std::sin(x); }
};
struct Cosine {
  static vd wide(vd x) { return cos_wide(x); }
  static float far(float x) { return std::cos(x); }
};
struct Tangent {
  static vd wide(vd x) { return tan_wide(x); }
  static float far(float x) { return std::tan(x); }
};

// The last elements pass through a vector on the stack.
template <class F> void each(const float* x, float* y, int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kWideLanes <= n; i += kWideLanes) store_wide(y + i, f(load_wide(x + i), i));
  if (i == n) return;
  float rest[kWideLanes] = {};
  for (int64_t k = i; k < n; ++k) rest[k - i] = x[k];
  store_wide(rest, f(load_wide(rest), i));
  for (int64_t k = i; k < n; ++k) y[k] = rest[k - i];
}

template <class F> void turning(char* out, const char* a, const char*, const char*, int64_t n, const Step&) {
  float* y = reinterpret_cast<float*>(out);
  const float* x = reinterpret_cast<const float*>(a);
  bool near = true;
  for (int64_t i = 0; i < n; ++i) near &= !(std::fabs(x[i]) >= kFar);
  if (!near) {
    for (int64_t i = 0; i < n; ++i) y[i] = F::far(x[i]);
    return;
  }
  each(x, y, n, [](vd v, int64_t) { return F::wide(v); });
}

bool is_plain(float x, float e) {
  return (x > 0.0f) & (x < __builtin_inff()) & (std::fabs(e) < __builtin_inff());
}

// Exponents of which x and e are n elements, or e is one.
template <bool kScalar> void power(char* out, const char* a, const char* b, const char*, int64_t n, const Step&) {
  float* y = reinterpret_cast<float*>(out);
  const float *x = reinterpret_cast<const float*>(a), *e = reinterpret_cast<const float*>(b);
  const auto exponent = [&](int64_t i) { return e[kScalar ? 0 : i]; };
  bool plain = true;
  for (int64_t i = 0; i < n; ++i) plain &= is_plain(x[i], exponent(i));
  if (!plain) {
    for (int64_t i = 0; i < n; ++i) y[i] = std::pow(x[i], exponent(i));
    return;
  }
  each(x, y, n, [&](vd v, int64_t i) {
    if constexpr (kScalar) return exp2_wide(log2_wide(v) * static_cast<double>(e[0]));
    if (i + kWideLanes <= n) return exp2_wide(log2_wide(v) * load_wide(e + i));
    float rest[kWideLanes] = {};
    for (int64_t k = i; k < n; ++k) rest[k - i] = e[k];
    return exp2_wide(log2_wide(v) * load_wide(rest));
  });
}

template <class F> void map(float* y, const float* x, int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(x + i)));
  const int rest = static_cast<int>(n - i);
  if (rest > 0) store_first(y + i, f(load_first(x + i, rest)), rest);
}

// x to the power of one number: the usual ones are short.
void power_of(char* out, const char* a, const char* b, const char* c, int64_t n, const Step& s) {
  float* y = reinterpret_cast<float*>(out);
  const float* x = reinterpret_cast<const float*>(a);
  const float e = *reinterpret_cast<const float*>(b);
  if (e == 2.0f) return map(y, x, n, [](vf v) { return v * v; });
  if (e == 3.0f) return map(y, x, n, [](vf v) { return v * v * v; });
  if (e == -1.0f) return map(y, x, n, [](vf v) { return 1.0f / v; });
  if (e == 1.0f) return map(y, x, n, [](vf v) { return v; });
  if (e == 0.5f) {
    const vf infinity = broadcast(__builtin_inff());
    return map(y, x, n, [&](vf v) { return choose((vi)(v == -infinity), infinity, sqrt(v) + 0.0f); });
  }
  power<true>(out, a, b, c, n, s);
}

}  // namespace

Function wide_function(Op op, int scalars) {
  if (op == Op::kPow) return scalars == 0 ? power<false> : scalars == 2 ? power_of : nullptr;
  if (scalars != 0) return nullptr;
  switch (op) {
    case Op::kSin: return turning<Sine>;
    case Op::kCos: return turning<Cosine>;
    case Op::kTan: return turning<Tangent>;
    default: return nullptr;
  }
}

}  // namespace graphopt::elementwise
