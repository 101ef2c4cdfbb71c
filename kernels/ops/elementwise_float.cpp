// Steps on float32, in vectors. A source that is one element for the whole block is broadcast once.
//
// Loop: whole vectors, then one masked vector. Measured on 1,024 elements in L1 (Zen 4): see tests/kernels.
#include "ops/elementwise_scalar.h"
#include "simd/math.h"

namespace graphopt::elementwise {
namespace {

#define GRAPHOPT_OPERATOR __attribute__((always_inline)) vf operator()

#define GRAPHOPT_UNARY(Name, expression)                          \
  struct Name {                                                   \
    explicit Name(const Step&) {}                                 \
    GRAPHOPT_OPERATOR(vf x) const { return expression; }          \
  };
#define GRAPHOPT_UNARY_WITH(Name, expression)                     \
  struct Name {                                                   \
    vf first, second;                                             \
    explicit Name(const Step& s)                                  \
        : first(broadcast(static_cast<float>(s.floats[0]))), second(broadcast(static_cast<float>(s.floats[1]))) {} \
    GRAPHOPT_OPERATOR(vf x) const { return expression; }          \
  };
#define GRAPHOPT_BINARY(Name, expression)                         \
  struct Name {                                                   \
    GRAPHOPT_OPERATOR(vf a, vf b) const { return expression; }    \
  };

GRAPHOPT_INLINE vf one() { return broadcast(1.0f); }
GRAPHOPT_INLINE vf hard_unit(vf x) { return min(one(), max(vf{}, x)); }

// e / (1 + e) with e = exp(x) (exp(x) + 2) is tanh(softplus(x)).
GRAPHOPT_INLINE vf mish(vf x) {
  vf e = exp(min(broadcast(20.0f), x));
  vf n = e * (e + 2.0f);
  return choose((vi)(x > 20.0f), x, x * (n / (n + 2.0f)));
}
GRAPHOPT_INLINE vf sign(vf x) { return choose((vi)(abs(x) > 0.0f), copy_sign(one(), x), x + 0.0f); }
GRAPHOPT_INLINE vf elu(vf x, vf alpha) { return choose((vi)(x > 0.0f), x, alpha * expm1(min(vf{}, x))); }

GRAPHOPT_UNARY(Neg, -x)
GRAPHOPT_UNARY(Abs, abs(x))
GRAPHOPT_UNARY(Sign, sign(x))
GRAPHOPT_UNARY(Sqrt, sqrt(x))
GRAPHOPT_UNARY(Reciprocal, 1.0f / x)
GRAPHOPT_UNARY(Exp, exp(x))
GRAPHOPT_UNARY(Log, log(x))
GRAPHOPT_UNARY(Erf, erf(x))
GRAPHOPT_UNARY(Tanh, tanh(x))
GRAPHOPT_UNARY(Floor, floor(x))
GRAPHOPT_UNARY(Ceil, ceil(x))
GRAPHOPT_UNARY(Round, round_even(x))
GRAPHOPT_UNARY(Relu, max(vf{}, x))
// HardSigmoid with the standard's alpha, the float next to 1 / 6.
GRAPHOPT_UNARY(HardSwish, x* hard_unit(x*(1.0f / 6) + 0.5f))
GRAPHOPT_UNARY(Sigmoid, sigmoid(x))
GRAPHOPT_UNARY(Softplus, softplus(x))
GRAPHOPT_UNARY(Softsign, x / (1.0f + abs(x)))
GRAPHOPT_UNARY(Gelu, gelu_fast(x))
GRAPHOPT_UNARY(GeluTanh, gelu_tanh(x))
GRAPHOPT_UNARY(Mish, mish(x))
GRAPHOPT_UNARY_WITH(LeakyRelu, choose((vi)(x < 0.0f), x* first, x))
GRAPHOPT_UNARY_WITH(Elu, elu(x, first))
GRAPHOPT_UNARY_WITH(Selu, second* elu(x, first))
GRAPHOPT_UNARY_WITH(Celu, choose((vi)(x > 0.0f), x, first* expm1(min(vf{}, x) / first)))
GRAPHOPT_UNARY_WITH(ThresholdedRelu, choose((vi)(x > first), x, vf{}))
GRAPHOPT_UNARY_WITH(HardSigmoid, hard_unit(x* first + second))
GRAPHOPT_UNARY_WITH(Swish, x* sigmoid(x* first))
GRAPHOPT_UNARY_WITH(Shrink, choose((vi)(x < -first), x + second, choose((vi)(x > first), x - second, vf{})))

GRAPHOPT_BINARY(Add, a + b)
GRAPHOPT_BINARY(Sub, a - b)
GRAPHOPT_BINARY(Mul, a* b)
GRAPHOPT_BINARY(Div, a / b)
GRAPHOPT_BINARY(Min, choose((vi)(a == a), min(a, b), a))
GRAPHOPT_BINARY(Max, choose((vi)(a == a), max(a, b), a))
GRAPHOPT_BINARY(PRelu, choose((vi)(a < 0.0f), a* b, a))

template <class F> void unary(char* out, const char* a, const char*, const char*, int64_t n, const Step& s) {
  const F f(s);
  float* y = reinterpret_cast<float*>(out);
  const float* x = reinterpret_cast<const float*>(a);
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4 * kLanes; k += kLanes) store(y + i + k, f(load(x + i + k)));
  }
#pragma GCC unroll 1
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(x + i)));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store_first(y + i, f(load_first(x + i, rest)), rest);
  }
}

// One source: n elements, or one.
template <bool kScalar> struct Source {
  const float* p;
  explicit Source(const char* at) : p(reinterpret_cast<const float*>(at)) {}
  __attribute__((always_inline)) vf whole(int64_t i) const { return load(p + i); }
  __attribute__((always_inline)) vf part(int64_t i, int n) const { return load_first(p + i, n); }
};
template <> struct Source<true> {
  vf v;
  explicit Source(const char* at) : v(broadcast(*reinterpret_cast<const float*>(at))) {}
  __attribute__((always_inline)) vf whole(int64_t) const { return v; }
  __attribute__((always_inline)) vf part(int64_t, int) const { return v; }
};

template <class F, int kScalars>
void binary(char* out, const char* a, const char* b, const char*, int64_t n, const Step&) {
  const F f{};
  float* y = reinterpret_cast<float*>(out);
  const Source<(kScalars & 1) != 0> p(a);
  const Source<(kScalars & 2) != 0> q(b);
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4 * kLanes; k += kLanes) store(y + i + k, f(p.whole(i + k), q.whole(i + k)));
  }
#pragma GCC unroll 1
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(p.whole(i), q.whole(i)));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store_first(y + i, f(p.part(i, rest), q.part(i, rest)), rest);
  }
}
template <class F> Function binary_for(int scalars) {
  return scalars == 0 ? binary<F, 0> : scalars == 1 ? binary<F, 1> : scalars == 2 ? binary<F, 2> : nullptr;
}

template <int kScalars>
void clip(char* out, const char* a, const char* b, const char* c, int64_t n, const Step&) {
  float* y = reinterpret_cast<float*>(out);
  const float* x = reinterpret_cast<const float*>(a);
  const Source<(kScalars & 2) != 0> low(b);
  const Source<(kScalars & 4) != 0> high(c);
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + kLanes <= n; i += kLanes) store(y + i, min(high.whole(i), max(low.whole(i), load(x + i))));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store_first(y + i, min(high.part(i, rest), max(low.part(i, rest), load_first(x + i, rest))), rest);
  }
}

}  // namespace

Function float_function(Op op, int scalars) {
  switch (op) {
#define GRAPHOPT_CASE(Name) \
  case Op::k##Name: return scalars == 0 ? unary<Name> : nullptr;
    GRAPHOPT_CASE(Neg) GRAPHOPT_CASE(Abs) GRAPHOPT_CASE(Sign) GRAPHOPT_CASE(Sqrt) GRAPHOPT_CASE(Reciprocal)
    GRAPHOPT_CASE(Exp) GRAPHOPT_CASE(Log) GRAPHOPT_CASE(Erf) GRAPHOPT_CASE(Tanh) GRAPHOPT_CASE(Floor)
    GRAPHOPT_CASE(Ceil) GRAPHOPT_CASE(Round) GRAPHOPT_CASE(Relu) GRAPHOPT_CASE(LeakyRelu) GRAPHOPT_CASE(Elu)
    GRAPHOPT_CASE(Selu) GRAPHOPT_CASE(Celu) GRAPHOPT_CASE(ThresholdedRelu) GRAPHOPT_CASE(HardSigmoid)
    GRAPHOPT_CASE(HardSwish) GRAPHOPT_CASE(Sigmoid) GRAPHOPT_CASE(Softplus) GRAPHOPT_CASE(Softsign)
    GRAPHOPT_CASE(Gelu) GRAPHOPT_CASE(GeluTanh) GRAPHOPT_CASE(Swish) GRAPHOPT_CASE(Mish) GRAPHOPT_CASE(Shrink)
#undef GRAPHOPT_CASE
#define GRAPHOPT_CASE(Name) \
  case Op::k##Name: return scalars == 0 ? unary_loop<float, scalar::Name<float>> : nullptr;
    GRAPHOPT_CASE(Asin) GRAPHOPT_CASE(Acos) GRAPHOPT_CASE(Atan) GRAPHOPT_CASE(Sinh) GRAPHOPT_CASE(Cosh)
    GRAPHOPT_CASE(Asinh) GRAPHOPT_CASE(Acosh) GRAPHOPT_CASE(Atanh)
#undef GRAPHOPT_CASE
#define GRAPHOPT_CASE(Name) \
  case Op::k##Name: return binary_for<Name>(scalars);
    GRAPHOPT_CASE(Add) GRAPHOPT_CASE(Sub) GRAPHOPT_CASE(Mul) GRAPHOPT_CASE(Div) GRAPHOPT_CASE(Min) GRAPHOPT_CASE(Max)
    GRAPHOPT_CASE(PRelu)
#undef GRAPHOPT_CASE
    case Op::kSin: case Op::kCos: case Op::kTan: case Op::kPow: return wide_function(op, scalars);
    case Op::kClip: return scalars == 0 ? clip<0> : scalars == 6 ? clip<6> : nullptr;
    default: break;
  }
  if (scalars != 0) return nullptr;
  switch (op) {
    case Op::kMod: return binary_loop<float, scalar::Mod<float>>;
    case Op::kFmod: return binary_loop<float, scalar::Fmod<float>>;
    case Op::kEqual: return compare_loop<float, IsEqual>;
    case Op::kLess: return compare_loop<float, IsLess>;
    case Op::kLessEqual: return compare_loop<float, IsAtMost>;
    case Op::kIsNaN: return is_nan_loop<float>;
    case Op::kIsInf: return is_inf_loop<float>;
    default: return nullptr;
  }
}

}  // namespace graphopt::elementwise
