// Tiles of `conv.bytes`: 12 x 32 (AVX-512) or 6 x 16 sums of 32 bits; a group of 4 bytes a step.
#include <utility>

#include "ops/conv_bytes_plan.h"
#include "simd/dot.h"

namespace graphopt {
namespace {

GRAPHOPT_INLINE int32_t four_at(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return four;
}

// Vectors of a row in the order that packing leaves them: its fours of lanes are brought together.
GRAPHOPT_INLINE vi in_rows(vi packed) {
#if defined(__AVX512F__)
  return (vi)_mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), (__m512i)packed);
#elif defined(__AVX2__)
  return (vi)_mm256_permutevar8x32_epi32((__m256i)packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
#else
  return packed;
#endif
}

// The first `count` bytes of a row of codes, or for `whole` all `bytes` of it.
template <int bytes, bool whole>
GRAPHOPT_INLINE void put_row(char* to, const char* codes, int count) {
  if constexpr (whole) {
    std::memcpy(to, codes, bytes);
  } else {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    const auto mask = static_cast<__mmask32>((uint64_t{1} << count) - 1);
    if constexpr (bytes == 32) _mm256_mask_storeu_epi8(to, mask, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    else _mm_mask_storeu_epi8(to, static_cast<__mmask16>(mask), _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
#else
    std::memcpy(to, codes, static_cast<size_t>(count));
#endif
  }
}

// Codes of a tile, four vectors at a time: of two rows where a row has two.
template <int rows, int vectors, bool whole>
GRAPHOPT_INLINE void put_codes(const ByteResult& result, const vi (&sums)[rows][vectors], const float* scale, char* to, int64_t to_stride,
                               int columns) {
  constexpr int at_once = 4 / vectors, bytes = vectors * kLanes;
#pragma GCC unroll 16
  for (int i = 0; i < rows; i += at_once) {
    vi rounded[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const int row = i + k / vectors < rows ? i + k / vectors : i, j = k % vectors;
      rounded[k] = rounded_sums(result, sums[row][j], load(scale + j * kLanes));
    }
    char codes[kVectorBytes];
    store_bits(codes, in_rows(packed_codes(result, rounded)));
#pragma GCC unroll 4
    for (int k = 0; k < at_once; ++k)
      if (i + k < rows) put_row<bytes, whole>(to + (i + k) * to_stride, codes + k * bytes, columns);
  }
}

// How far ahead the weights of a single row are asked for.
constexpr int64_t kSingleBytes = 4096;

template <int rows, int vectors, bool narrow>
__attribute__((noinline)) void tile(int64_t groups, const uint8_t* a, int64_t a_stride, const int8_t* w, const int32_t* start,
                                    const float* scale, const ByteResult& result, char* to, int64_t to_stride, int columns) {
  constexpr int chains = rows * vectors <= 4 ? 4 : rows * vectors <= 8 ? 2 : 1;
  vi acc[chains][rows][vectors] = {};
#pragma GCC unroll 2
  for (int j = 0; j < vectors; ++j) {
    const vi first = load_bits(start + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) acc[0][i][j] = first;
  }
  const auto step = [&](vi(&into)[rows][vectors], int64_t group) __attribute__((always_inline)) {
    vi b[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j, w += kVectorBytes) {
      b[j] = load_bits(w);
      if constexpr (rows == 1) __builtin_prefetch(w + kSingleBytes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const vi x = broadcast_bits(four_at(a + i * a_stride + 4 * group));
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) into[i][j] = dot_bytes<narrow>(into[i][j], x, b[j]);
    }
  };
  int64_t group = 0;
  for (; group + chains <= groups; group += chains)
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; ++chain) step(acc[chain], group + chain);
  for (; group < groups; ++group) step(acc[0], group);
#pragma GCC unroll 4
  for (int chain = 1; chain < chains; ++chain)
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) acc[0][i][j] += acc[chain][i][j];
  if (result.size() == 1) {
    if (columns == vectors * kLanes) return put_codes<rows, vectors, true>(result, acc[0], scale, to, to_stride, columns);
    return put_codes<rows, vectors, false>(result, acc[0], scale, to, to_stride, columns);
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) {
      const int count = j + 1 < vectors ? kLanes : columns - (vectors - 1) * kLanes;
      put_numbers(result, acc[0][i][j], scale + j * kLanes, to + (i * to_stride + j * kLanes) * 4, count);
    }
}

struct ConvTiles {
  ByteConvTile of[2][kPanelVectors][kTileRows];  // [narrow][vectors - 1][rows - 1]
};

template <int... row>
constexpr ConvTiles make_conv_tiles(std::integer_sequence<int, row...>) {
  constexpr bool narrow = !kExactBytes;
  return {{{{&tile<row + 1, 1, false>...}, {&tile<row + 1, 2, false>...}},
           {{&tile<row + 1, 1, narrow>...}, {&tile<row + 1, 2, narrow>...}}}};
}
constexpr ConvTiles kConvTiles = make_conv_tiles(std::make_integer_sequence<int, kTileRows>{});

}  // namespace

ByteConvTile byte_conv_tile(int rows, int vectors, bool narrow) { return kConvTiles.of[narrow][vectors - 1][rows - 1]; }

}  // namespace graphopt
