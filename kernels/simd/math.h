// Functions of a vector of floats.
#pragma once
#include "simd/vector.h"

namespace graphopt {

// e^x: relative error below 1.2e-7; overflow to infinity, gradual underflow, NaN stays NaN.
GRAPHOPT_INLINE vf exp(vf x) {
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
  constexpr float kRound = 12582912.0f;
  x = min(broadcast(89.0f), max(broadcast(-104.0f), x));
  const vf shifted = x * 1.44269504f + kRound, n = shifted - kRound;
  const vf r = x - n * 0.693359375f - n * -2.12194440e-4f;
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
#if defined(__AVX512F__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  // In two steps, so that neither factor leaves the range of exponents.
  const vi exponent = (vi)shifted - broadcast_bits(0x4b400000), half = exponent >> 1;
  const vf first = (vf)((half + 127) << 23), second = (vf)((exponent - half + 127) << 23);
  return p * first * second;
#endif
}

}  // namespace graphopt
