// Floats to bytes by one scale: saturate(round(x / scale) + zero), halves to even, to the bit as division has it.
//
// A quotient q = x * (1 / scale) that is corrected once by its remainder, q + (x - q * scale) / scale, is within 2^-22
// units in the last place of x / scale before it is rounded. It rounds to another integer than the float x / scale only
// where x / scale lies that close to the middle of two floats, one of which ends in exactly a half. With quotients
// below 256 the scale's significand, as a whole number, is then within 8 of a multiple of 2^16: such scales divide,
// but for powers of two, whose inverse is exact.
#pragma once
#include <cmath>

#include "simd/vector.h"

namespace graphopt {

struct ByteRounding {
  float scale, inverse;
  float low, high;    // of x; beyond them it saturates
  float least, most;  // of the quotient
  int32_t zero;
  bool divides;
};

inline ByteRounding byte_rounding(float scale, int32_t zero, bool is_signed) {
  ByteRounding r;
  r.scale = scale, r.inverse = 1.0f / scale, r.zero = zero;
  r.least = static_cast<float>((is_signed ? -128 : 0) - zero), r.most = r.least + 255.0f;
  r.low = r.least * scale, r.high = r.most * scale;
  uint32_t bits;
  std::memcpy(&bits, &scale, 4);
  const uint32_t low = bits & 0xffff, exponent = bits >> 23;  // a sign makes the exponent too large
  r.divides = exponent < 30 || exponent > 225 || ((low <= 8 || low >= 0xfff8) && (bits & 0x7fffff) != 0) || std::fabs(r.least) > 255.0f ||
              std::fabs(r.most) > 255.0f;
#if !defined(__FMA__)
  r.divides = true;  // the remainder has to be exact
#endif
  return r;
}

// The codes of x; NaN has the least one.
template <bool divides>
GRAPHOPT_INLINE vi byte_codes(const ByteRounding& r, vf x) {
  vf q;
  if constexpr (divides) {
    q = min(max(x / r.scale, broadcast(r.least)), broadcast(r.most));
  } else {
    const vf scale = broadcast(r.scale), inverse = broadcast(r.inverse);
    x = min(max(x, broadcast(r.low)), broadcast(r.high));
    q = x * inverse;
#if defined(__AVX512F__)
    const __m512 rest = _mm512_fnmadd_ps((__m512)q, (__m512)scale, (__m512)x);
    q = (vf)_mm512_fmadd_ps(rest, (__m512)inverse, (__m512)q);
#elif defined(__AVX2__) && defined(__FMA__)
    const __m256 rest = _mm256_fnmadd_ps((__m256)q, (__m256)scale, (__m256)x);
    q = (vf)_mm256_fmadd_ps(rest, (__m256)inverse, (__m256)q);
#else
    q += (x - q * scale) * inverse;
#endif
  }
  // Adding 1.5 * 2^23 rounds half to even and leaves the integer in the low bits.
  return (vi)(q + 12582912.0f) - broadcast_bits(0x4b400000 - r.zero);
}

// Writes the low bytes of the first `count` lanes.
GRAPHOPT_INLINE void store_bytes(uint8_t* to, vi codes, int count) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)codes);
  if (count == kLanes) _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  else _mm_mask_storeu_epi8(to, static_cast<__mmask16>((1u << count) - 1), bytes);
#else
  typedef uint8_t line __attribute__((vector_size(kLanes)));
  const line bytes = __builtin_convertvector((vu)codes, line);
  if (count == kLanes) std::memcpy(to, &bytes, kLanes);
  else std::memcpy(to, &bytes, static_cast<size_t>(count));
#endif
}

// The codes of n neighbours.
template <bool divides>
GRAPHOPT_INLINE void quantize_line_as(const ByteRounding& r, const float* x, int64_t n, uint8_t* to) {
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) store_bytes(to + j, byte_codes<divides>(r, load(x + j)), kLanes);
  if (const int rest = static_cast<int>(n - j)) store_bytes(to + j, byte_codes<divides>(r, load_first(x + j, rest)), rest);
}
GRAPHOPT_INLINE void quantize_line(const ByteRounding& r, const float* x, int64_t n, uint8_t* to) {
  if (r.divides) quantize_line_as<true>(r, x, n, to);
  else quantize_line_as<false>(r, x, n, to);
}

}  // namespace graphopt
