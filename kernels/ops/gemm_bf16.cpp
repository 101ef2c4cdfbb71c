// `gemm.bf16`: the product with packed bfloat16 weights.
//
// Where the CPU multiplies pairs of bfloat16, the rows of A are rounded to them in blocks, and a step of a tile is a
// pair of K: twice the arithmetic of f32 and half its bytes. Elsewhere the weights are widened where they are loaded.
#include "ops/gemm_packed.h"
#include "ops/registry.h"
#include "simd/dot.h"

namespace graphopt {
namespace {

#if defined(__AVX512BF16__)

using PairTile = void (*)(int64_t pairs, const bf16* a, int64_t a_stride, const bf16* w, bool streams, float* c,
                          int64_t c_stride, const TileEnd& end);

template <int rows, int vectors>
__attribute__((noinline)) void pair_tile(int64_t pairs, const bf16* a, int64_t a_stride, const bf16* w, bool streams,
                                         float* c, int64_t c_stride, const TileEnd& end) {
  constexpr int chains = rows == 1 ? 4 : rows <= kFewRows ? 2 : 1;
  vf acc[chains][rows][vectors] = {};
  const auto step = [&](vf(&into)[rows][vectors], int64_t k) __attribute__((always_inline)) {
    vi b[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j, w += 2 * kLanes) b[j] = load_bits(w);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      int32_t pair;
      std::memcpy(&pair, a + i * a_stride + 2 * k, 4);
      const vi x = broadcast_bits(pair);
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) into[i][j] = dot_bf16(into[i][j], x, b[j]);
    }
  };
  int64_t k = 0;
  if (rows > kFewRows && streams)
    for (; k < pairs; ++k) {
      const char* at = reinterpret_cast<const char*>(w);
      ask_ahead<vectors * kVectorBytes>(at + kNearBytes, at + kFarBytes);
      step(acc[0], k);
    }
  for (; k + chains <= pairs; k += chains)
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; ++chain) step(acc[chain], k + chain);
  for (; k < pairs; ++k) step(acc[0], k);
  join_chains(acc);
  end_tile<rows, vectors>(acc[0], c, c_stride, end);
}

struct PairTiles {
  PairTile of[kPanelVectors][kTileRows];
};

template <int... row>
constexpr PairTiles make_pair_tiles(std::integer_sequence<int, row...>) {
  return {{{&pair_tile<row + 1, 1>...}, {&pair_tile<row + 1, 2>...}}};
}

constexpr PairTiles kPairTiles = make_pair_tiles(std::make_integer_sequence<int, kTileRows>{});

// Rows of A as bfloat16, with a zero after an odd K.
void round_rows(const PackedGemm& g, const char* a, int64_t begin, int64_t rows, bf16* to) {
  const int64_t a_row = g.extent.rows.a, padded = (g.depth + 1) / 2 * 2;
  with_floats(g.a_dtype, a, [&](auto* typed) {
    using From = std::remove_cv_t<std::remove_pointer_t<decltype(typed)>>;
    if constexpr (std::is_same_v<From, float>) {
      if (g.a_step == 1) {
        for (int64_t i = 0; i < rows; ++i) {
          const float* from = typed + (begin + i) * a_row;
          bf16* row = to + i * g.copied_stride;
          int64_t k = 0;
          for (; k + kLanes <= g.depth; k += kLanes)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + k), (__m256i)_mm512_cvtneps_pbh((__m512)load(from + k)));
          for (; k < g.depth; ++k) row[k] = converted<bf16>(from[k]);
          if (padded > g.depth) row[g.depth] = bf16{0};
        }
        return;
      }
    }
    copy_block(typed + begin * a_row, a_row, g.a_step, rows, g.depth, padded, to, g.copied_stride);
  });
}

void run_pairs(const PackedGemm& g, const char* a, const char* packed, const EndData& data, int64_t first, int64_t last,
               int64_t panel, int64_t end_panel, char* scratch) {
  PanelEnds ends(g.end, data);
  auto* rounded = reinterpret_cast<bf16*>(scratch);
  const int64_t pairs = (g.depth + 1) / 2;
  for (int64_t begin = first; begin < last; begin += g.block_rows) {
    const int64_t rows = last - begin < g.block_rows ? last - begin : g.block_rows;
    round_rows(g, a, begin, rows, rounded);
    for (int64_t p = panel; p < end_panel; ++p) {
      const auto* w = reinterpret_cast<const bf16*>(packed) + p * kPanel * pairs * 2;
      ends.begin(p * kPanel);
      for_row_tiles(rows, [&](int64_t row, int size) {
        const PairTile tile = kPairTiles.of[ends.vectors() - 1][size - 1];
        ends.run(begin + row, size, [&](float* c, int64_t c_stride, const TileEnd& end) {
          tile(pairs, rounded + row * g.copied_stride, g.copied_stride, w, row == 0, c, c_stride, end);
        });
      });
    }
  }
}

Run prepare(Bind& b) {
  PackedGemm& g = prepare_packed(b);
  check_packed(b, g, (g.depth + 1) / 2 * 4 * g.panels.padded());
  const int64_t stride = (g.depth + 31) / 32 * 32;
  copy_rows(b, g, stride * 2 % 4096 == 0 ? stride + 32 : stride, 2);
  return run_packed<run_pairs>;
}

const RegisterKernel gemm_bf16{"gemm.bf16", prepare, shape_packed};

#else

const RegisterKernel gemm_bf16{"gemm.bf16", prepare_packed_as<bf16>, shape_packed};

#endif

}  // namespace
}  // namespace graphopt
