// Operations on one floating-point element: the definitions. Double uses them in plain loops, float32 where there is no
// vector form.
#pragma once
#include <cmath>
#include <limits>

#include "ops/elementwise.h"

namespace graphopt::elementwise {
namespace scalar {

// An operation without parameters.
#define GRAPHOPT_UNARY(Name, expression)                      \
  template <class T> struct Name {                            \
    explicit Name(const Step&) {}                             \
    T operator()(T x) const { return static_cast<T>(expression); } \
  };
// With parameters p(0), p(1).
#define GRAPHOPT_UNARY_WITH(Name, expression)                 \
  template <class T> struct Name {                            \
    T first, second;                                          \
    explicit Name(const Step& s)                              \
        : first(static_cast<T>(s.floats[0])), second(static_cast<T>(s.floats[1])) {} \
    T operator()(T x) const { return static_cast<T>(expression); } \
  };
#define GRAPHOPT_BINARY(Name, expression)                     \
  template <class T> struct Name {                            \
    T operator()(T a, T b) const { return static_cast<T>(expression); } \
  };

GRAPHOPT_UNARY(Neg, -x)
GRAPHOPT_UNARY(Abs, std::fabs(x))
GRAPHOPT_UNARY(Sign, x > 0 ? T(1) : x < 0 ? T(-1) : x == 0 ? T(0) : x)
GRAPHOPT_UNARY(Sqrt, std::sqrt(x))
GRAPHOPT_UNARY(Reciprocal, 1 / x)
GRAPHOPT_UNARY(Exp, std::exp(x))
GRAPHOPT_UNARY(Log, std::log(x))
GRAPHOPT_UNARY(Erf, std::erf(x))
GRAPHOPT_UNARY(Sin, std::sin(x))
GRAPHOPT_UNARY(Cos, std::cos(x))
GRAPHOPT_UNARY(Tan, std::tan(x))
GRAPHOPT_UNARY(Asin, std::asin(x))
GRAPHOPT_UNARY(Acos, std::acos(x))
GRAPHOPT_UNARY(Atan, std::atan(x))
GRAPHOPT_UNARY(Sinh, std::sinh(x))
GRAPHOPT_UNARY(Cosh, std::cosh(x))
GRAPHOPT_UNARY(Tanh, std::tanh(x))
GRAPHOPT_UNARY(Asinh, std::asinh(x))
GRAPHOPT_UNARY(Acosh, std::acosh(x))
GRAPHOPT_UNARY(Atanh, std::atanh(x))
GRAPHOPT_UNARY(Floor, std::floor(x))
GRAPHOPT_UNARY(Ceil, std::ceil(x))
GRAPHOPT_UNARY(Round, std::nearbyint(x))
GRAPHOPT_UNARY(Relu, x < 0 ? T(0) : x)
GRAPHOPT_UNARY(HardSwish, x * std::fmax(T(0), std::fmin(T(1), x / 6 + T(0.5))))
GRAPHOPT_UNARY(Sigmoid, (x < 0 ? std::exp(x) : T(1)) / (1 + std::exp(-std::fabs(x))))
GRAPHOPT_UNARY(Softplus, std::log1p(std::exp(-std::fabs(x))) + (x > 0 ? x : T(0)))
GRAPHOPT_UNARY(Softsign, x / (1 + std::fabs(x)))
GRAPHOPT_UNARY(Gelu, x * T(0.5) * std::erfc(x * T(-0.70710678118654752440)))
GRAPHOPT_UNARY(GeluTanh, x * T(0.5) * (1 + std::tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x))))
GRAPHOPT_UNARY(Mish, x * std::tanh(std::log1p(std::exp(-std::fabs(x))) + (x > 0 ? x : T(0))))

GRAPHOPT_UNARY_WITH(LeakyRelu, x < 0 ? first * x : x)
GRAPHOPT_UNARY_WITH(Elu, x > 0 ? x : first * std::expm1(x))
GRAPHOPT_UNARY_WITH(Selu, second * (x > 0 ? x : first * std::expm1(x)))
GRAPHOPT_UNARY_WITH(Celu, x > 0 ? x : first * std::expm1(x / first))
GRAPHOPT_UNARY_WITH(ThresholdedRelu, x > first ? x : T(0))
GRAPHOPT_UNARY_WITH(Swish, x / (1 + std::exp(-(first * x))))
GRAPHOPT_UNARY_WITH(Shrink, x < -first ? x + second : x > first ? x - second : T(0))

template <class T> struct HardSigmoid {
  T alpha, beta;
  explicit HardSigmoid(const Step& s) : alpha(static_cast<T>(s.floats[0])), beta(static_cast<T>(s.floats[1])) {}
  T operator()(T x) const {
    T y = alpha * x + beta;
    return y > 1 ? T(1) : y < 0 ? T(0) : y;
  }
};

GRAPHOPT_BINARY(Add, a + b)
GRAPHOPT_BINARY(Sub, a - b)
GRAPHOPT_BINARY(Mul, a * b)
GRAPHOPT_BINARY(Div, a / b)
GRAPHOPT_BINARY(Fmod, std::fmod(a, b))
GRAPHOPT_BINARY(Pow, std::pow(a, b))
GRAPHOPT_BINARY(Min, a < b || a != a ? a : b)
GRAPHOPT_BINARY(Max, a > b || a != a ? a : b)
GRAPHOPT_BINARY(PRelu, a < 0 ? a * b : a)

// The remainder has the sign of the divisor.
template <class T> struct Mod {
  T operator()(T a, T b) const {
    T r = std::fmod(a, b);
    if (r == 0) return std::copysign(T(0), b);
    return (r < 0) != (b < 0) ? r + b : r;
  }
};

#undef GRAPHOPT_UNARY
#undef GRAPHOPT_UNARY_WITH
#undef GRAPHOPT_BINARY

}  // namespace scalar

// Loops over elements.
template <class T, class F> void unary_loop(char* out, const char* a, const char*, const char*, int64_t n, const Step& s) {
  const F f(s);
  T* y = reinterpret_cast<T*>(out);
  const T* x = reinterpret_cast<const T*>(a);
  for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}
template <class T, class F> void binary_loop(char* out, const char* a, const char* b, const char*, int64_t n, const Step&) {
  const F f{};
  T* y = reinterpret_cast<T*>(out);
  const T *x = reinterpret_cast<const T*>(a), *z = reinterpret_cast<const T*>(b);
  for (int64_t i = 0; i < n; ++i) y[i] = f(x[i], z[i]);
}

// Comparisons; results are bytes 0 or 1.
template <class T, class F> void compare_loop(char* out, const char* a, const char* b, const char*, int64_t n, const Step&) {
  uint8_t* y = reinterpret_cast<uint8_t*>(out);
  const T *x = reinterpret_cast<const T*>(a), *z = reinterpret_cast<const T*>(b);
  for (int64_t i = 0; i < n; ++i) y[i] = F::holds(x[i], z[i]);
}
struct IsEqual {
  template <class T> static bool holds(T a, T b) { return a == b; }
};
struct IsLess {
  template <class T> static bool holds(T a, T b) { return a < b; }
};
struct IsAtMost {
  template <class T> static bool holds(T a, T b) { return a <= b; }
};

template <class T> void is_nan_loop(char* out, const char* a, const char*, const char*, int64_t n, const Step&) {
  const T* x = reinterpret_cast<const T*>(a);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] != x[i];
}
template <class T> void is_inf_loop(char* out, const char* a, const char*, const char*, int64_t n, const Step& s) {
  const T* x = reinterpret_cast<const T*>(a);
  const bool negative = s.floats[0] != 0, positive = s.floats[1] != 0;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  for (int64_t i = 0; i < n; ++i) out[i] = (negative && x[i] == -infinity) || (positive && x[i] == infinity);
}
// NaN stays; where the bounds cross, the upper one holds.
template <class T> void clip_loop(char* out, const char* a, const char* b, const char* c, int64_t n, const Step&) {
  T* y = reinterpret_cast<T*>(out);
  const T *x = reinterpret_cast<const T*>(a), *low = reinterpret_cast<const T*>(b), *high = reinterpret_cast<const T*>(c);
  for (int64_t i = 0; i < n; ++i) {
    T v = x[i] < low[i] ? low[i] : x[i];
    y[i] = high[i] < v ? high[i] : v;
  }
}

}  // namespace graphopt::elementwise
