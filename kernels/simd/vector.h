// Vectors of the width that the library is compiled for: GCC and Clang vector extensions, one source for all.
//
// Intrinsics are used only where the extensions make bad code; each has a plain form beside it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace graphopt {

#if defined(GRAPHOPT_LAYOUT_BYTES)
constexpr int kVectorBytes = GRAPHOPT_LAYOUT_BYTES;  // of the CPU whose packed constants are read here
#elif defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / 4;  // floats in a vector

#define GRAPHOPT_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(kVectorBytes)));
typedef int32_t vi __attribute__((vector_size(kVectorBytes)));
typedef uint32_t vu __attribute__((vector_size(kVectorBytes)));
typedef float vf_unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
typedef int32_t vi_unaligned __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));

GRAPHOPT_INLINE vf load(const float* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
GRAPHOPT_INLINE void store(float* p, vf v) { *reinterpret_cast<vf_unaligned*>(p) = v; }
GRAPHOPT_INLINE vi load_bits(const void* p) { return *reinterpret_cast<const vi_unaligned*>(p); }
GRAPHOPT_INLINE void store_bits(void* p, vi v) { *reinterpret_cast<vi_unaligned*>(p) = v; }
GRAPHOPT_INLINE vf broadcast(float x) { return x - vf{}; }
GRAPHOPT_INLINE vi broadcast_bits(int32_t x) { return x - vi{}; }

// Of a NaN and a number the second operand.
GRAPHOPT_INLINE vf max(vf a, vf b) { return a > b ? a : b; }
GRAPHOPT_INLINE vf min(vf a, vf b) { return a < b ? a : b; }
GRAPHOPT_INLINE vf abs(vf a) { return (vf)((vi)a & broadcast_bits(0x7fffffff)); }

// The first n lanes (0 <= n < kLanes), the others zero.
GRAPHOPT_INLINE vf load_first(const float* p, int n) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#else
  vf v{};
  std::memcpy(&v, p, sizeof(float) * static_cast<size_t>(n));
  return v;
#endif
}
GRAPHOPT_INLINE void store_first(float* p, vf v, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#else
  std::memcpy(p, &v, sizeof(float) * static_cast<size_t>(n));
#endif
}

GRAPHOPT_INLINE float sum_of(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__)
  __m128 h = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  h = _mm_add_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
#else
  return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}
GRAPHOPT_INLINE float max_of(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float m = v[0];
  for (int i = 1; i < kLanes; ++i) m = m > v[i] ? m : v[i];
  return m;
#endif
}
GRAPHOPT_INLINE float min_of(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_min_ps((__m512)v);
#else
  float m = v[0];
  for (int i = 1; i < kLanes; ++i) m = m < v[i] ? m : v[i];
  return m;
#endif
}

}  // namespace graphopt
