// What convolutions of bytes share: the end of their sums, and how they read lines of bytes.
#pragma once
#include <type_traits>

#include "engine/abi.h"
#include "simd/vector.h"

namespace graphopt {

typedef uint8_t vb __attribute__((vector_size(kLanes)));
typedef int8_t vsb __attribute__((vector_size(kLanes)));

// From sums to results:
//   s32  the sum      f32  sum * scale      u8, s8  sum * scale, rounded half to even, + zero, saturated
struct ByteResult {
  DType dtype;
  float low, high;  // of what is rounded: before the zero point is added
  int32_t zero;

  int64_t size() const { return dtype == DType::kUint8 || dtype == DType::kInt8 ? 1 : 4; }
};

inline ByteResult byte_result(DType dtype, int64_t zero) {
  const float low = static_cast<float>((dtype == DType::kInt8 ? -128 : 0) - zero);
  return {dtype, low, low + 255.0f, static_cast<int32_t>(zero)};
}

// Rounds by a number whose unit in the last place is 1.
GRAPHOPT_INLINE vb requantized(const ByteResult& r, vi sum, vf scale) {
  vf v = __builtin_convertvector(sum, vf) * scale;
  v = min(max(v, broadcast(r.low)), broadcast(r.high)) + 12582912.0f;
  const vi rounded = (vi)v - broadcast_bits(0x4b400000) + r.zero;
#if defined(__AVX512F__)
  return (vb)_mm512_cvtepi32_epi8((__m512i)rounded);
#else
  return __builtin_convertvector(rounded, vb);
#endif
}

// Writes `count` results (at most kLanes), neighbours in memory.
GRAPHOPT_INLINE void put_results(const ByteResult& r, vi sum, const float* scale, char* to, int count) {
  if (r.size() == 1) {
    const vb bytes = requantized(r, sum, load(scale));
    if (count == kLanes) std::memcpy(to, &bytes, kLanes);
    else
#if defined(__AVX512BW__) && defined(__AVX512VL__)
      _mm_mask_storeu_epi8(to, static_cast<__mmask16>((1u << count) - 1), (__m128i)bytes);
#else
      std::memcpy(to, &bytes, static_cast<size_t>(count));
#endif
    return;
  }
  const vf v = r.dtype == DType::kInt32 ? (vf)sum : __builtin_convertvector(sum, vf) * load(scale);
  if (count == kLanes) store(reinterpret_cast<float*>(to), v);
  else store_first(reinterpret_cast<float*>(to), v, count);
}

// kLanes bytes as 32 bits; only the first `count` are read.
template <class X>
GRAPHOPT_INLINE vi wide_bytes(const X* p, int count) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  const __m128i bytes = count == kLanes ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)) : _mm_maskz_loadu_epi8(mask, p);
  return (vi)(std::is_signed_v<X> ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
#else
  typedef X line __attribute__((vector_size(kLanes)));
  line bytes{};
  if (count == kLanes) std::memcpy(&bytes, p, kLanes);
  else std::memcpy(&bytes, p, static_cast<size_t>(count));
#if defined(__AVX2__)
  const __m128i low = _mm_set_epi64x(0, (long long)bytes);
  return (vi)(std::is_signed_v<X> ? _mm256_cvtepi8_epi32(low) : _mm256_cvtepu8_epi32(low));
#else
  return __builtin_convertvector(bytes, vi);
#endif
#endif
}

}  // namespace graphopt
