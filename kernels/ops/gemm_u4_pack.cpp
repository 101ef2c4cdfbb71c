// Packer of the weights of 4 bits.
#include <cstring>

#include "ops/gemm_u4.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

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

const RegisterPacker u4_panels{"gemm.u4", bytes, pack, unpack};

}  // namespace
}  // namespace graphopt
