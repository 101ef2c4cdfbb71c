// `gemm.u4`: the product of floats with weights of 4 bits that share a scale and a zero point in blocks along K.
//
// One row: weights become floats in registers. More rows: a panel becomes floats in scratch (in L2), for `gemm`'s tiles.
#include "ops/gemm_packed.h"
#include "ops/gemm_u4.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// Both halves of kLanes bytes, in 32 bits each.
GRAPHOPT_INLINE vi widen_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  vi v;
  for (int i = 0; i < kLanes; ++i) v[i] = p[i];
  return v;
#endif
}

struct Gemm4 {
  PackedGemm g;
  int64_t block;
};

// A panel as floats [K][kPanel].
void decode(const Layout4& layout, const char* packed, int64_t p, float* to) {
  const uint8_t* data = layout.data(packed, p);
  for (int64_t k = 0; k < layout.depth; ++k, data += kPanel / 2, to += kPanel) {
    const float* scale = layout.scales(packed, p) + k / layout.block * kPanel;
    const float* zero = layout.zeros(packed, p) + k / layout.block * kPanel;
    const vi both = widen_bytes(data);
    store(to, (__builtin_convertvector(both & 15, vf) - load(zero)) * load(scale));
    store(to + kLanes, (__builtin_convertvector(both >> 4, vf) - load(zero + kLanes)) * load(scale + kLanes));
  }
}

// One row times a panel: two chains over K in each block.
void multiply_row(const Layout4& layout, const char* packed, int64_t p, const float* a, float* sums) {
  const uint8_t* data = layout.data(packed, p);
  const float *scale = layout.scales(packed, p), *zero = layout.zeros(packed, p);
  vf low{}, high{};
  for (int64_t first = 0; first < layout.depth; first += layout.block, scale += kPanel, zero += kPanel) {
    const int64_t last = first + layout.block < layout.depth ? first + layout.block : layout.depth;
    vf part[2][2] = {};
    const vf low_zero = load(zero), high_zero = load(zero + kLanes);
    for (int64_t k = first; k < last; ++k, data += kPanel / 2) {
      __builtin_prefetch(data + 2048);
      const vi both = widen_bytes(data);
      const vf x = broadcast(a[k]);
      part[k & 1][0] += x * (__builtin_convertvector(both & 15, vf) - low_zero);
      part[k & 1][1] += x * (__builtin_convertvector(both >> 4, vf) - high_zero);
    }
    low += (part[0][0] + part[1][0]) * load(scale);
    high += (part[0][1] + part[1][1]) * load(scale + kLanes);
  }
  store(sums, low);
  store(sums + kLanes, high);
}

void run_block(const PackedGemm& g, const char* a, const char* packed, const EndData& data, int64_t first, int64_t last,
               int64_t panel, int64_t end_panel, char* scratch) {
  const auto& all = reinterpret_cast<const Gemm4&>(g);
  const Layout4 layout{g.depth, g.panels.columns, all.block};
  PanelEnds ends(g.end, data);
  auto* rows = reinterpret_cast<float*>(scratch);
  auto* decoded = rows + g.block_rows * g.copied_stride;
  for (int64_t p = panel; p < end_panel; ++p) {
    ends.begin(p * kPanel);
    const bool one = last - first == 1;
    if (!one) decode(layout, packed, p, decoded);
    for (int64_t begin = first; begin < last; begin += g.block_rows) {
      const int64_t count = last - begin < g.block_rows ? last - begin : g.block_rows;
      const float* from = reinterpret_cast<const float*>(a) + begin * g.extent.rows.a;
      int64_t stride = g.extent.rows.a;
      if (g.copied_stride != 0) {
        with_floats(g.a_dtype, a, [&](auto* typed) {
          copy_block(typed + begin * stride, stride, g.a_step, count, g.depth, g.depth, rows, g.copied_stride);
        });
        from = rows;
        stride = g.copied_stride;
      }
      if (one) {
        multiply_row(layout, packed, p, from, ends.sums());
        ends.put(first, 1);
        continue;
      }
      for_row_tiles(count, [&](int64_t row, int size) {
        const Tile<float> tile = kTiles<float>.of[ends.vectors() - 1][size - 1];
        ends.run(begin + row, size, [&](float* c, int64_t c_stride, const TileEnd& end) {
          tile(g.depth, from + row * stride, stride, decoded, kPanel, false, c, c_stride, end);
        });
      });
    }
  }
}

// Operands and numbers of `gemm`, and the size of a block.
Run prepare(Bind& b) {
  if (b.n_ints != 5 || b.ints[4] < 2) b.host->fail("a product with weights of 4 bits takes 5 numbers");
  --b.n_ints;
  PackedGemm& made = prepare_packed(b);
  auto& all = b.make<Gemm4>();
  all.g = made;
  all.block = b.ints[4];
  PackedGemm& g = all.g;
  check_packed(b, g, Layout4{g.depth, g.panels.columns, all.block}.bytes());
  if (g.a_step != 1 || g.a_dtype != DType::kFloat) copy_rows(b, g, copied_stride(g.depth), 4);
  b.need_scratch((g.block_rows * g.copied_stride + g.depth * kPanel) * 4 + 64);
  return run_packed<run_block>;
}

const RegisterKernel gemm_u4{"gemm.u4", prepare, shape_packed};

}  // namespace
}  // namespace graphopt
