// What the forms of attention share: where operands lie, which keys a query sees, how masks are read.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/norm_rows.h"
#include "simd/math.h"

namespace graphopt {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Attention;
using AddMask = void (*)(const Attention&, const char* mask, float* scores, int64_t keys, int64_t queries, int vectors);
using AddMaskRow = void (*)(const char* mask, float* scores, int64_t keys);

// Strides of dims 0, 1, 2; dim 3 has stride 1.
struct Attention {
  int64_t batch, heads, queries, keys, size, value_size;
  int64_t group;  // query heads a key head
  int64_t q[3], k[3], v[3], y[3];
  int64_t mask[3], mask_keys;  // 0 where the mask is broadcast; keys beyond mask_keys are not seen
  int64_t mask_size;           // bytes of an element; 0: no mask
  AddMask add_mask;
  AddMaskRow add_mask_row;
  int64_t left, right, offset;  // query i sees keys i + offset - left .. i + offset + right; -1: no bound
  bool has_lengths;             // input 4
  DType length_type;
  int mode;  // which scores are output 1: 0 products, 1 after softcap, 2 after the mask, 3 probabilities; -1: none
  int64_t scores[4];
  double scale, softcap;
  int64_t block;        // keys at a time
  int64_t value_step;   // row length of partial results
};

// The keys that a batch's query i sees: [begin, end).
struct Seen {
  int64_t limit, offset;

  static Seen of(const Attention& p, const Instr& instr, int64_t batch) {
    Seen s{p.keys, p.offset};
    if (p.mask_size) s.limit = std::min(s.limit, p.mask_keys);
    if (p.has_lengths) {
      const Tensor& t = *instr.in[4];
      const int64_t at = batch * (t.rank ? t.strides[0] : 0);
      const int64_t length = p.length_type == DType::kInt32 ? t.as<int32_t>()[at] : t.as<int64_t>()[at];
      s.limit = std::max<int64_t>(0, std::min(s.limit, length));
      s.offset = length - p.queries;
    }
    return s;
  }
  int64_t begin(const Attention& p, int64_t query) const {
    return p.left < 0 ? 0 : std::max<int64_t>(0, query + offset - p.left);
  }
  int64_t end(const Attention& p, int64_t query) const {
    return p.right < 0 ? limit : std::max<int64_t>(0, std::min(limit, query + offset + p.right + 1));
  }
};

struct Bool {
  uint8_t byte;
};

// What a mask adds to `n` scores.
GRAPHOPT_INLINE vf load_mask(const float* p, int n) { return n == kLanes ? load(p) : load_first(p, n); }
template <class H>
GRAPHOPT_INLINE vf load_mask(const H* p, int n) { return n == kLanes ? load(p) : load_first(p, n); }
GRAPHOPT_INLINE vf load_mask(const Bool* p, int n) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << n) - 1), p);
  return (vf)_mm512_mask_blend_ps(_mm_test_epi8_mask(bytes, bytes), _mm512_set1_ps(kMinusInfinity), _mm512_setzero_ps());
#else
  vf v{};
  for (int i = 0; i < n; ++i) v[i] = p[i].byte ? 0.0f : kMinusInfinity;
  return v;
#endif
}

GRAPHOPT_INLINE vf capped(vf x, float softcap) { return tanh(x * (1.0f / softcap)) * softcap; }

}  // namespace graphopt
