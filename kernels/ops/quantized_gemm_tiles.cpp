// Tiles of the product of bytes: 12 x 32 (AVX-512) or 6 x 16 sums of 32 bits; a group of 4 bytes a step.
// With VNNI 430 of 465 GOP/s of a core.
#include "ops/quantized_gemm.h"
#include "simd/dot.h"

namespace graphopt {
namespace {

GRAPHOPT_INLINE int32_t group_at(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return four;
}

// What the sums begin with: the zero points of rows are out of them from the first.
template <int rows, int vectors>
GRAPHOPT_INLINE void start(vi (&acc)[rows][vectors], const ByteEnd& bytes) {
#pragma GCC unroll 2
  for (int j = 0; j < vectors; ++j) {
    const vi sums = load_bits((bytes.start != nullptr ? bytes.start : bytes.sums) + j * kLanes);
    if (bytes.start != nullptr) {
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) acc[i][j] = sums;
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) acc[i][j] = -bytes.row_zero[i] * sums;
    }
  }
}

template <int rows, int vectors>
GRAPHOPT_INLINE void subtract_columns(vi (&acc)[rows][vectors], const ByteEnd& bytes) {
#pragma GCC unroll 2
  for (int j = 0; j < vectors; ++j) {
    const vi zero = load_bits(bytes.column_zero + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) acc[i][j] -= bytes.row_sums[i] * zero;
  }
}

// How far ahead the weights of a single row are asked for, into L1; and those of many rows, into L2: about a panel, which
// takes as long as memory does to answer. 2 or 3 rows are bound by their loads, and what the processor fetches by itself
// is enough.
constexpr int64_t kSingleBytes = 4096, kPanelBytes = 8192;

template <int rows, int vectors, bool narrow>
__attribute__((noinline)) void tile(int64_t depth, const uint8_t* a, int64_t a_stride, const int8_t* w, bool streams,
                                    const ByteEnd& bytes, float* c, int64_t c_stride, const TileEnd& end) {
  constexpr int chains = rows == 1 ? 4 : rows <= kFewRows ? 2 : 1;
  vi acc[chains][rows][vectors] = {};
  start<rows, vectors>(acc[0], bytes);
  const auto step = [&](vi(&into)[rows][vectors], int64_t k) __attribute__((always_inline)) {
    vi b[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j, w += kVectorBytes) {
      b[j] = load_bits(w);
      if constexpr (rows == 1) __builtin_prefetch(w + kSingleBytes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const vi x = broadcast_bits(group_at(a + i * a_stride + k));
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) into[i][j] = dot_bytes<narrow>(into[i][j], x, b[j]);
    }
  };
  const int64_t whole = depth / 4 * 4;
  int64_t k = 0;
  if (rows > kFewRows && streams)
    for (; k < whole; k += 4) {
      const char* at = reinterpret_cast<const char*>(w);
      ask_ahead<vectors * kVectorBytes>(at + kNearBytes, at + kPanelBytes);
      step(acc[0], k);
    }
  for (; k + 4 * chains <= whole; k += 4 * chains)
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; ++chain) step(acc[chain], k + 4 * chain);
  for (; k < whole; k += 4) step(acc[0], k);
  join_chains(acc);
  if (whole < depth) {
    // The last row may end with its memory: its last group is read byte by byte.
    vi b[vectors];
    for (int j = 0; j < vectors; ++j) b[j] = load_bits(w + j * kVectorBytes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      uint8_t last[4] = {};
      for (int64_t at = whole; at < depth; ++at) last[at - whole] = a[i * a_stride + at];
      const vi x = broadcast_bits(group_at(last));
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) acc[0][i][j] = dot_bytes<narrow>(acc[0][i][j], x, b[j]);
    }
  }
  if (bytes.column_zero != nullptr) subtract_columns<rows, vectors>(acc[0], bytes);
  if (bytes.raw != nullptr) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) store_bits(bytes.raw + i * kPanel + j * kLanes, acc[0][i][j]);
    return;
  }
  vf floats[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) floats[i][j] = __builtin_convertvector(acc[0][i][j], vf) * bytes.row_scale[i];
  end_tile<rows, vectors>(floats, c, c_stride, end);
}

struct ByteTiles {
  ByteTile of[2][kPanelVectors][kTileRows];  // [narrow][vectors - 1][rows - 1]
};

template <int... row>
constexpr ByteTiles make_byte_tiles(std::integer_sequence<int, row...>) {
  // One instruction does both kinds where it can't saturate.
  constexpr bool narrow = !kExactBytes;
  return {{{{&tile<row + 1, 1, false>...}, {&tile<row + 1, 2, false>...}},
           {{&tile<row + 1, 1, narrow>...}, {&tile<row + 1, 2, narrow>...}}}};
}

constexpr ByteTiles kByteTiles = make_byte_tiles(std::make_integer_sequence<int, kTileRows>{});

}  // namespace

ByteTile byte_tile(int rows, int vectors, bool narrow) { return kByteTiles.of[narrow][vectors - 1][rows - 1]; }

}  // namespace graphopt
