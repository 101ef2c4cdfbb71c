// What convolutions of bytes share: the end of their sums, and how they read lines of bytes.
#pragma once
#include <type_traits>

#include "engine/abi.h"
#include "simd/vector.h"

namespace graphopt {

typedef uint8_t vb __attribute__((vector_size(kLanes)));

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

// What is rounded before it is packed, which saturates: of floats that 32 bits can't hold the sign is left.
GRAPHOPT_INLINE vi rounded_sums([[maybe_unused]] const ByteResult& r, vi sum, vf scale) {
  const vf v = __builtin_convertvector(sum, vf) * scale;
#if defined(__AVX512BW__)
  return (vi)_mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(1e9f), (__m512)v));
#elif defined(__AVX2__)
  return (vi)_mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(1e9f), (__m256)v));
#else
  return (vi)(min(max(v, broadcast(r.low)), broadcast(r.high)) + 12582912.0f) - broadcast_bits(0x4b400000);
#endif
}

// Bytes of four vectors of rounded sums: byte 16 i + 4 k + j is of lane 4 i + j of vector k.
GRAPHOPT_INLINE vi packed_codes(const ByteResult& r, const vi (&v)[4]) {
  const bool is_signed = r.dtype == DType::kInt8;
#if defined(__AVX512BW__)
  const __m512i zero = _mm512_set1_epi16(static_cast<int16_t>(r.zero + (is_signed ? 128 : 0)));
  const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)v[0], (__m512i)v[1]), zero);
  const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)v[2], (__m512i)v[3]), zero);
  return (vi)_mm512_packus_epi16(low, high) ^ (is_signed ? static_cast<int32_t>(0x80808080) : 0);
#elif defined(__AVX2__)
  const __m256i zero = _mm256_set1_epi16(static_cast<int16_t>(r.zero + (is_signed ? 128 : 0)));
  const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32((__m256i)v[0], (__m256i)v[1]), zero);
  const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32((__m256i)v[2], (__m256i)v[3]), zero);
  return (vi)_mm256_packus_epi16(low, high) ^ (is_signed ? static_cast<int32_t>(0x80808080) : 0);
#else
  uint8_t bytes[kVectorBytes];
  for (int k = 0; k < 4; ++k)
    for (int lane = 0; lane < kLanes; ++lane) bytes[16 * (lane / 4) + 4 * k + lane % 4] = static_cast<uint8_t>(v[k][lane] + r.zero);
  (void)is_signed;
  return load_bits(bytes);
#endif
}

// Writes `count` results of 32 bits (at most kLanes), neighbours in memory.
GRAPHOPT_INLINE void put_numbers(const ByteResult& r, vi sum, const float* scale, char* to, int count) {
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
