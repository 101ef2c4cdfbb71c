// 16-bit floats in memory, 32-bit floats in registers: loads widen, stores round to nearest even.
#pragma once
#include <cstring>

#include "simd/vector.h"

namespace graphopt {

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

GRAPHOPT_INLINE float float_of_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
GRAPHOPT_INLINE uint32_t bits_of_float(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

GRAPHOPT_INLINE float to_float(float x) { return x; }
GRAPHOPT_INLINE float to_float(bf16 x) { return float_of_bits(static_cast<uint32_t>(x.bits) << 16); }
GRAPHOPT_INLINE float to_float(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
  if (rest >= 0x7c00u) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // The exponent is biased by 15 instead of 127; a multiplication makes subnormals normal.
  return float_of_bits(sign | bits_of_float(float_of_bits(rest << 13) * 0x1p112f));
}

GRAPHOPT_INLINE void from_float(float x, float& y) { y = x; }
GRAPHOPT_INLINE void from_float(float x, bf16& y) {
  const uint32_t bits = bits_of_float(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  y.bits = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
GRAPHOPT_INLINE void from_float(float x, f16& y) {
  const uint32_t bits = bits_of_float(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
  uint32_t half;
  if (rest > 0x7f800000u) {
    half = 0x7e00u | (rest >> 13 & 0x3ffu);
  } else if (rest >= 0x477ff000u) {  // 65520 and more round to infinity
    half = 0x7c00u;
  } else if (rest < 0x38800000u) {  // below 2^-14: the addition rounds to a multiple of 2^-24
    half = bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000u;
  } else {
    half = (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13;
  }
  y.bits = static_cast<uint16_t>(sign | half);
}

#if defined(__AVX512F__)
GRAPHOPT_INLINE vf widen(__m256i bits, f16) { return (vf)_mm512_cvtph_ps(bits); }
GRAPHOPT_INLINE vf widen(__m256i bits, bf16) { return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16); }
GRAPHOPT_INLINE __m256i narrow(vf v, f16) { return _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT); }
GRAPHOPT_INLINE __m256i narrow(vf v, bf16) {
  const vi bits = (vi)v, rounded = (vi)((vu)(bits + 0x7fff + (bits >> 16 & 1)) >> 16), quiet = (vi)((vu)bits >> 16) | 0x40;
  return _mm512_cvtepi32_epi16((__m512i)(v == v ? rounded : quiet));
}
template <class H>
GRAPHOPT_INLINE vf load(const H* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), H{}); }
template <class H>
GRAPHOPT_INLINE void store(H* p, vf v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v, H{})); }
template <class H>
GRAPHOPT_INLINE vf load_first(const H* p, int n) {
  return widen(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1), p), H{});
}
template <class H>
GRAPHOPT_INLINE void store_first(H* p, vf v, int n) {
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << n) - 1), narrow(v, H{}));
}
#else
#if defined(__AVX2__) && defined(__F16C__)
GRAPHOPT_INLINE vf load(const f16* p) {
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
GRAPHOPT_INLINE void store(f16* p, vf v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#endif
template <class H>
GRAPHOPT_INLINE vf load(const H* p) {
  vf v;
  for (int i = 0; i < kLanes; ++i) v[i] = to_float(p[i]);
  return v;
}
template <class H>
GRAPHOPT_INLINE void store(H* p, vf v) {
  for (int i = 0; i < kLanes; ++i) from_float(v[i], p[i]);
}
template <class H>
GRAPHOPT_INLINE vf load_first(const H* p, int n) {
  vf v{};
  for (int i = 0; i < n; ++i) v[i] = to_float(p[i]);
  return v;
}
template <class H>
GRAPHOPT_INLINE void store_first(H* p, vf v, int n) {
  for (int i = 0; i < n; ++i) from_float(v[i], p[i]);
}
#endif

}  // namespace graphopt
