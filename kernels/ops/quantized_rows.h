// Rows of floats as unsigned bytes, with a scale and a zero point for each:
//
//   scale = (max(x, 0) - min(x, 0)) / 255, zero = round(-min / scale), y = saturate(round(x / scale) + zero)
#pragma once
#include <cmath>

#include "simd/rounding.h"

namespace graphopt {

struct RowScale {
  float step, inverse;
  int32_t zero;
};

// least <= 0 <= most. A range below the smallest normal number has no inverse; it quantizes to zeros.
GRAPHOPT_INLINE RowScale row_scale(float least, float most) {
  const float range = most - least, step = range > 3e-36f ? range / 255.0f : 1.0f, inverse = 1.0f / step;
  return {step, inverse, static_cast<int32_t>(std::nearbyint(-least * inverse))};
}

// Codes before they are bounded.
GRAPHOPT_INLINE vi row_integers(const RowScale& s, vf v) {
  // Adding 1.5 * 2^23 rounds half to even and leaves the integer in the low bits.
  return (vi)(v * s.inverse + 12582912.0f) - broadcast_bits(0x4b400000 - s.zero);
}

GRAPHOPT_INLINE vi row_codes(const RowScale& s, vf v) {
  const vi integers = row_integers(s, v), positive = integers < 0 ? vi{} : integers;
  return positive > 255 ? broadcast_bits(255) : positive;
}

GRAPHOPT_INLINE void quantize_row(const RowScale& s, const float* x, int64_t columns, uint8_t* y) {
  int64_t j = 0;
#if defined(__AVX512BW__)
  // Four vectors at once: packing bounds them, and leaves 4 bytes of each in every 16.
  const vi order = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  for (; j + 4 * kLanes <= columns; j += 4 * kLanes) {
    vi v[4];
    for (int k = 0; k < 4; ++k) v[k] = row_integers(s, load(x + j + k * kLanes));
    const __m512i low = _mm512_packs_epi32((__m512i)v[0], (__m512i)v[1]), high = _mm512_packs_epi32((__m512i)v[2], (__m512i)v[3]);
    store_bits(y + j, __builtin_shuffle((vi)_mm512_packus_epi16(low, high), order));
  }
#endif
  for (; j + kLanes <= columns; j += kLanes) store_bytes(y + j, row_codes(s, load(x + j)), kLanes);
  if (const int rest = static_cast<int>(columns - j)) store_bytes(y + j, row_codes(s, load_first(x + j, rest)), rest);
}

}  // namespace graphopt
