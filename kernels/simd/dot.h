// Dot products of short groups: 4 bytes into 32 bits, 2 bfloat16 into a float.
#pragma once
#include "simd/half.h"
#include "simd/vector.h"

namespace graphopt {

// Whether unsigned bytes times any signed bytes are summed by one instruction that can't saturate.
#if defined(__AVX512VNNI__)
constexpr bool kExactBytes = true;
#else
constexpr bool kExactBytes = false;
#endif

// acc + a[4 l] w[4 l] + .. + a[4 l + 3] w[4 l + 3] in each lane l: bytes of a unsigned, of w signed.
// `narrow` promises |w[2 i]| + |w[2 i + 1]| <= 128 for all pairs: their products then fit 16 bits.
template <bool narrow>
GRAPHOPT_INLINE vi dot_bytes(vi acc, vi a, vi w) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)w);
#elif defined(__AVX512BW__)
  const __m512i ones = _mm512_set1_epi16(1);
  if (narrow) return acc + (vi)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)a, (__m512i)w), ones);
  // Seven bits never saturate; the eighth is added with its weight.
  const vi low = a & 0x7f7f7f7f, high = (a >> 7) & 0x01010101;
  acc += (vi)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)low, (__m512i)w), ones);
  return acc + (vi)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)high, (__m512i)w), _mm512_set1_epi16(128));
#elif defined(__AVX2__)
  const __m256i ones = _mm256_set1_epi16(1);
  if (narrow) return acc + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)a, (__m256i)w), ones);
  const vi low = a & 0x7f7f7f7f, high = (a >> 7) & 0x01010101;
  acc += (vi)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)low, (__m256i)w), ones);
  return acc + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)high, (__m256i)w), _mm256_set1_epi16(128));
#else
  for (int byte = 0; byte < 32; byte += 8) acc += ((a >> byte) & 255) * ((w << (24 - byte)) >> 24);
  return acc;
#endif
}

#if defined(__AVX512BF16__)
// acc + a[2 l] w[2 l] + a[2 l + 1] w[2 l + 1] in each lane l.
GRAPHOPT_INLINE vf dot_bf16(vf acc, vi a, vi w) {
  return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)(__m512i)a, (__m512bh)(__m512i)w);
}
#endif

}  // namespace graphopt
