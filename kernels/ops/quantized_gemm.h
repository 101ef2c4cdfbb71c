// The product of bytes with packed bytes: what its packer, tiles and ends share.
//
//   packed: column sums s32 [padded N], whether each panel is narrow (a byte a panel, padded to 64), then the panels
//           [(K + 3) / 4][columns of the panel][4], signed; unsigned weights are stored less 128
#pragma once
#include <cmath>

#include "ops/gemm_end.h"
#include "ops/gemm_pack.h"

namespace graphopt {

struct BytePanels {
  int64_t depth;
  Panels panels;

  int64_t groups() const { return (depth + 3) / 4; }
  int64_t flags_offset() const { return (panels.padded() * 4 + 63) / 64 * 64; }
  int64_t data_offset() const { return flags_offset() + (panels.count() + 63) / 64 * 64; }
  int64_t bytes() const { return data_offset() + groups() * 4 * panels.padded(); }
  const int32_t* sums(const char* packed) const { return reinterpret_cast<const int32_t*>(packed); }
  bool is_narrow(const char* packed, int64_t panel) const { return packed[flags_offset() + panel] != 0; }
  const int8_t* panel(const char* packed, int64_t p) const {
    return reinterpret_cast<const int8_t*>(packed + data_offset()) + p * kPanel * groups() * 4;
  }
};

// From sums of bytes to what they stand for: (acc - row_zero[i] * sums[j] - column_zero[j] * row_sums[i]) * row_scale[i].
// Columns are those of the panel, rows those of the tile.
struct ByteEnd {
  const int32_t* start;  // not null: -row_zero * sums, where the rows have one zero point
  const int32_t* sums;
  const int32_t* column_zero;  // null: all are 0
  const int32_t* row_zero;
  const int32_t* row_sums;
  const float* row_scale;
  int32_t* raw;  // not null: 32-bit results go here, kPanel a row, and no floats are made
};

// A flag of gemm.u8s8: bytes are made of what the end gives (bias, activation, residual).
constexpr int64_t kQuantizesEnd = 8;

// Bytes of 32-bit results as QLinearMatMul has them: rounded half to even, saturated.
struct Requantization {
  float zero, low, high;

  Requantization(DType dtype, int32_t zero_point)
      : zero(static_cast<float>(zero_point)), low(dtype == DType::kInt8 ? -128.0f : 0.0f), high(low + 255.0f) {}
  uint8_t operator()(int32_t sum, float scale) const {
    const float y = std::nearbyint(static_cast<float>(sum) * scale) + zero;
    return static_cast<uint8_t>(static_cast<int32_t>(y < low ? low : y > high ? high : y));
  }
};

inline int32_t integer_at(const Tensor* t, int64_t i) {
  if (t == nullptr) return 0;
  switch (t->dtype) {
    case DType::kInt8: return t->as<int8_t>()[i];
    case DType::kUint8: return t->as<uint8_t>()[i];
    default: return t->as<int32_t>()[i];
  }
}

inline float scale_at(const Tensor* t, int64_t i) { return t == nullptr ? 1.0f : t->as<float>()[i]; }

// `streams`: the tile is the first to read these weights, as gemm_tile.h has it.
using ByteTile = void (*)(int64_t depth, const uint8_t* a, int64_t a_stride, const int8_t* w, bool streams, const ByteEnd& bytes,
                          float* c, int64_t c_stride, const TileEnd& end);
ByteTile byte_tile(int rows, int vectors, bool narrow);

}  // namespace graphopt
