// Weights of 4 bits that share a scale and a zero point in blocks along K, as `gemm.u4` reads them.
//
//   sources: [N, blocks, block / 2] bytes, low half first; scales f32 [N, blocks]; zero points f32 [N, blocks]
//   ints:    K, N, block
//   packed panel: scales [blocks][kPanel], zero points [blocks][kPanel], then [K][kPanel / 2] bytes: the low half of
//            byte j is column j, the high half column j + kLanes
#pragma once
#include "ops/gemm_pack.h"

namespace graphopt {

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

}  // namespace graphopt
