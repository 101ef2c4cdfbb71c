// Functions of float32 that are computed in double, half a vector of floats at a time: where float32 has too few digits
// between argument and result. Errors are those of rounding the result, below 0.51 units of the last place.
#pragma once
#include "simd/vector.h"

namespace graphopt {

constexpr int kWideLanes = kLanes / 2;

typedef double vd __attribute__((vector_size(kVectorBytes)));
typedef int64_t vl __attribute__((vector_size(kVectorBytes)));
typedef float vh __attribute__((vector_size(kVectorBytes / 2)));
typedef float vh_unaligned __attribute__((vector_size(kVectorBytes / 2), aligned(4), may_alias));

GRAPHOPT_INLINE vd load_wide(const float* p) {
  return __builtin_convertvector(*reinterpret_cast<const vh_unaligned*>(p), vd);
}
GRAPHOPT_INLINE void store_wide(float* p, vd v) {
  *reinterpret_cast<vh_unaligned*>(p) = __builtin_convertvector(v, vh);
}
GRAPHOPT_INLINE vd broadcast_wide(double x) { return x - vd{}; }

// Adding it leaves the rounded integer in the low bits.
constexpr double kWideMagic = 6755399441055744.0;  // 1.5 * 2^52

// sin and cos of the rest of x after n quarter turns, |x| < 2^20; n in the low bits of `turns`.
struct Turned {
  vd sine, cosine;
  vl turns;
};
GRAPHOPT_INLINE Turned turned(vd x) {
  vd t = x * 0.63661977236758134308 + kWideMagic;
  vd n = t - kWideMagic;
  // pi/2 in two parts; the first has 33 bits, so that its product with n is exact
  vd r = x - n * 1.57079632673412561417e+00;
  r = r - n * 6.07710050650619224932e-11;
  vd s = r * r;
  vd p = s * (-1.0 / 39916800) + 1.0 / 362880;
  p = p * s - 1.0 / 5040;
  p = p * s + 1.0 / 120;
  p = p * s - 1.0 / 6;
  vd q = s * (-1.0 / 3628800) + 1.0 / 40320;
  q = q * s - 1.0 / 720;
  q = q * s + 1.0 / 24;
  q = q * s - 0.5;
  return {(p * s + 1.0) * r, q * s + 1.0, (vl)t};  // a factor: the sign of zero stays
}
// Quarter turns exchange the two and flip signs.
GRAPHOPT_INLINE vd sine_after(const Turned& t, vl turns) {
  vd y = (turns & 1) != 0 ? t.cosine : t.sine;
  return (turns & 2) != 0 ? -y : y;
}
GRAPHOPT_INLINE vd sin_wide(vd x) {
  Turned t = turned(x);
  return sine_after(t, t.turns);
}
GRAPHOPT_INLINE vd cos_wide(vd x) {
  Turned t = turned(x);
  return sine_after(t, t.turns + 1);
}
GRAPHOPT_INLINE vd tan_wide(vd x) {
  Turned t = turned(x);
  return (t.turns & 1) != 0 ? -t.cosine / t.sine : t.sine / t.cosine;
}

// log2 of positive finite x that were floats; error below 2^-38.
GRAPHOPT_INLINE vd log2_wide(vd x) {
  vl bits = (vl)x;
  vl n = (bits - 0x3fe6a09e667f3bcdLL) >> 52;  // the mantissa falls in [sqrt(1/2), sqrt(2))
  vd m = (vd)(bits - (n << 52));
  vd s = (m - 1.0) / (m + 1.0), q = s * s;
  vd p = q * (1.0 / 13) + 1.0 / 11;
  p = p * q + 1.0 / 9;
  p = p * q + 1.0 / 7;
  p = p * q + 1.0 / 5;
  p = p * q + 1.0 / 3;
  p = p * q + 1.0;
  // n as a double: small integers added to the bits of the magic number
  vd whole = (vd)(n + (vl)broadcast_wide(kWideMagic)) - kWideMagic;
  return p * s * 2.88539008177792681472 + whole;
}
// 2^t; beyond float32's range infinity or zero after rounding to it.
GRAPHOPT_INLINE vd exp2_wide(vd t) {
  t = t < -200.0 ? broadcast_wide(-200.0) : t;
  t = t > 200.0 ? broadcast_wide(200.0) : t;
  vd u = t + kWideMagic;
  vd f = (t - (u - kWideMagic)) * 0.69314718055994530942;
  vd p = f * (1.0 / 362880) + 1.0 / 40320;
  p = p * f + 1.0 / 5040;
  p = p * f + 1.0 / 720;
  p = p * f + 1.0 / 120;
  p = p * f + 1.0 / 24;
  p = p * f + 1.0 / 6;
  p = p * f + 0.5;
  p = p * f + 1.0;
  p = p * f + 1.0;
  return (vd)((vl)p + ((vl)u << 52));
}

}  // namespace graphopt
