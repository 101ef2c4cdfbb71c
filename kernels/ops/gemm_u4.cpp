// `gemm.u4`: the product of floats with weights of 4 bits that share a scale and a zero point in blocks along K.
//
//   sources: [N, blocks, block / 2] bytes, low half first; scales f32 [N, blocks]; zero points f32 [N, blocks]
//   ints:    K, N, block
//   packed panel: scales [blocks][kPanel], zero points [blocks][kPanel], then [K][kPanel / 2] bytes: the low half of
//            byte j is column j, the high half column j + kLanes
//
// One row: weights become floats in registers. More rows: a panel becomes floats in scratch (in L2), for `gemm`'s tiles.
#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Layout4 {
  int64_t depth, columns, block;

  int64_t blocks() const { return block > 0 ? (depth + block - 1) / block : 0; }
  int64_t panels() const { return Panels{columns}.count(); }
  int64_t panel_bytes() const { return blocks() * kPanel * 8 + (depth * kPanel / 2 + 63) / 64 * 64; }
  int64_t bytes() const { return panels() * panel_bytes(); }
  float* scales(const char* packed, int64_t p) const { return reinterpret_cast<float*>(const_cast<char*>(packed) + p * panel_bytes()); }
  float* zeros(const char* packed, int64_t p) const { return scales(packed, p) + blocks() * kPanel; }
  uint8_t* data(const char* packed, int64_t p) const { return reinterpret_cast<uint8_t*>(zeros(packed, p) + blocks() * kPanel); }
};

Layout4 layout_of(const PackRequest& r) {
  if (r.n_ints != 3 || r.n_sources != 3) r.host->fail("weights of 4 bits take 3 sources and 3 numbers");
  const Layout4 layout{r.ints[0], r.ints[1], r.ints[2]};
  const int64_t values = layout.columns * layout.blocks();
  if (layout.block < 2 || layout.block % 2 != 0 || r.sources[0].count() != values * layout.block / 2 ||
      r.sources[1].count() != values || r.sources[2].count() != values || r.sources[1].dtype != DType::kFloat ||
      r.sources[2].dtype != DType::kFloat || size_of(r.sources[0].dtype) != 1)
    r.host->fail("weights of 4 bits for %lld x %lld in blocks of %lld", static_cast<long long>(layout.depth),
                 static_cast<long long>(layout.columns), static_cast<long long>(layout.block));
  return layout;
}

int64_t bytes(const PackRequest& r) { return layout_of(r).bytes(); }

void pack(const PackRequest& r, char* packed) {
  const Layout4 layout = layout_of(r);
  for (int i = 0; i < 3; ++i)
    if (!r.sources[i].is_dense()) r.host->fail("source %d of weights of 4 bits is strided", i);
  for (int64_t n = 0; n < layout.columns; ++n) {
    const int64_t p = n / kPanel, j = n % kPanel;
    for (int64_t g = 0; g < layout.blocks(); ++g) {
      layout.scales(packed, p)[g * kPanel + j] = r.sources[1].as<float>()[n * layout.blocks() + g];
      layout.zeros(packed, p)[g * kPanel + j] = r.sources[2].as<float>()[n * layout.blocks() + g];
    }
    for (int64_t k = 0; k < layout.depth; ++k) {
      const int64_t from = n * layout.blocks() * layout.block + k;
      const int value = r.sources[0].as<uint8_t>()[from / 2] >> (from % 2 * 4) & 15;
      uint8_t& to = layout.data(packed, p)[k * (kPanel / 2) + j % kLanes];
      to = static_cast<uint8_t>(to | value << (j < kLanes ? 0 : 4));
    }
  }
}

void unpack(const PackRequest& r, const char* packed, Tensor* sources) {
  const Layout4 layout = layout_of(r);
  std::memset(sources[0].data, 0, static_cast<size_t>(sources[0].count()));
  for (int64_t n = 0; n < layout.columns; ++n) {
    const int64_t p = n / kPanel, j = n % kPanel;
    for (int64_t g = 0; g < layout.blocks(); ++g) {
      sources[1].as<float>()[n * layout.blocks() + g] = layout.scales(packed, p)[g * kPanel + j];
      sources[2].as<float>()[n * layout.blocks() + g] = layout.zeros(packed, p)[g * kPanel + j];
    }
    for (int64_t k = 0; k < layout.depth; ++k) {
      const int64_t to = n * layout.blocks() * layout.block + k;
      const int value = layout.data(packed, p)[k * (kPanel / 2) + j % kLanes] >> (j < kLanes ? 0 : 4) & 15;
      uint8_t& byte = sources[0].as<uint8_t>()[to / 2];
      byte = static_cast<uint8_t>(byte | value << (to % 2 * 4));
    }
  }
}

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

const RegisterPacker u4_panels{"gemm.u4", bytes, pack, unpack};
const RegisterKernel gemm_u4{"gemm.u4", prepare, shape_packed};

}  // namespace
}  // namespace graphopt
