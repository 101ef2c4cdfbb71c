// Packer `conv.bytes.depthwise`: weights s8 [channels, 1, taps..], starts s32 [channels], perhaps scales f32 [channels]
// as blocks of channels.
#include <cstdlib>

#include "ops/conv_bytes_depthwise.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

DepthwiseBlocks blocks_of(const PackRequest& r) {
  const bool known = r.n_sources == 2 || r.n_sources == 3;
  const Tensor& w = r.sources[0];
  if (!known || w.rank < 3 || w.dtype != DType::kInt8 || w.dims[1] != 1 || r.sources[1].count() != w.dims[0] ||
      r.sources[1].dtype != DType::kInt32 || (r.n_sources == 3 && (r.sources[2].count() != w.dims[0] || r.sources[2].dtype != DType::kFloat)))
    r.host->fail("weights of a depthwise convolution of bytes: %lld filters of element type %d", static_cast<long long>(w.rank > 0 ? w.dims[0] : 0),
                 static_cast<int>(w.dtype));
  return {w.dims[0], w.product(2, w.rank)};
}

int64_t bytes(const PackRequest& r) { return blocks_of(r).bytes(); }

int64_t weight_at(const Tensor& w, int64_t channel, int64_t tap) {
  int64_t at = channel * w.strides[0];
  for (int axis = w.rank - 1; axis >= 2; --axis) at += tap % w.dims[axis] * w.strides[axis], tap /= w.dims[axis];
  return at;
}

// Calls f(place in a block's vectors, channel) for all lanes of a block: the place counts lanes of 4 bytes.
template <class F>
void for_lanes(const DepthwiseBlocks& d, int64_t block, const F& f) {
  for (int k = 0; k < kBlockVectors; ++k)
    for (int lane = 0; lane < kLanes; ++lane) f(k * kLanes + lane, d.channel(block, k, lane));
}

void pack(const PackRequest& r, char* packed) {
  const DepthwiseBlocks d = blocks_of(r);
  const Tensor& w = r.sources[0];
  constexpr int64_t kPart = kBlockVectors * kVectorBytes;
  bool narrow = true;
  for (int64_t block = 0; block < d.count(); ++block) {
    char* to = packed + 64 + block * d.block_bytes();
    for_lanes(d, block, [&](int64_t place, int64_t c) {
      reinterpret_cast<int32_t*>(to)[place] = r.sources[1].as<int32_t>()[c * r.sources[1].strides[0]];
      if (r.n_sources == 3) reinterpret_cast<float*>(to + kPart)[place] = r.sources[2].as<float>()[c * r.sources[2].strides[0]];
      for (int64_t group = 0; group < d.groups(); ++group) {
        auto* four = reinterpret_cast<int8_t*>(to + (2 + group) * kPart) + place * 4;
        for (int64_t j = 0; j < kTapsOfGroup && group * kTapsOfGroup + j < d.taps; ++j)
          four[j] = w.as<int8_t>()[weight_at(w, c, group * kTapsOfGroup + j)];
        narrow &= std::abs(four[0]) + std::abs(four[1]) <= 128 && std::abs(four[2]) + std::abs(four[3]) <= 128;
      }
    });
  }
  packed[0] = narrow;
}

void unpack(const PackRequest& r, const char* packed, Tensor* sources) {
  const DepthwiseBlocks d = blocks_of(r);
  constexpr int64_t kPart = kBlockVectors * kVectorBytes;
  for (int64_t block = 0; block < d.of_position(); ++block) {
    const char* from = packed + 64 + block * d.block_bytes();
    for_lanes(d, block, [&](int64_t place, int64_t c) {
      sources[1].as<int32_t>()[c] = reinterpret_cast<const int32_t*>(from)[place];
      if (r.n_sources == 3) sources[2].as<float>()[c] = reinterpret_cast<const float*>(from + kPart)[place];
      for (int64_t tap = 0; tap < d.taps; ++tap)
        sources[0].as<int8_t>()[weight_at(sources[0], c, tap)] =
            reinterpret_cast<const int8_t*>(from + (2 + tap / kTapsOfGroup) * kPart)[place * 4 + tap % kTapsOfGroup];
    });
  }
}

const RegisterPacker weights{"conv.bytes.depthwise", bytes, pack, unpack};

}  // namespace
}  // namespace graphopt
