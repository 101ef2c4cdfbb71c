// Linear quantization as steps of element-wise programs.
//
//   Quantize     x, scale, zero point -> saturate(round(x / scale) + zero point), halves to even; 8-bit floats: x / scale
//   Dequantize   x, scale, zero point -> (x - zero point) * scale
//
// One float32 path: other real types are cast before and after. Where x / scale is NaN the result is the least number.
#include <cmath>
#include <type_traits>

#include "ops/elementwise.h"
#include "ops/float8.h"
#include "simd/rounding.h"

namespace graphopt::elementwise {
namespace {

// kBits: what counts of a byte.
template <class Q, int kBits = 8 * sizeof(Q)> Q cut(Q x) {
  constexpr int kDrop = 8 * static_cast<int>(sizeof(Q)) - kBits;
  return static_cast<Q>(static_cast<Q>(static_cast<uint32_t>(x) << kDrop) >> kDrop);
}

// kUniform: scale and zero point are one element for all.
template <bool kUniform, class Q, int kLow, int kHigh, int kBits = 8 * sizeof(Q)>
void quantize(char* out, const char* a, const char* b, const char* c, int64_t n, const Step&) {
  Q* y = reinterpret_cast<Q*>(out);
  const float *x = reinterpret_cast<const float*>(a), *scale = reinterpret_cast<const float*>(b);
  const Q* zero = reinterpret_cast<const Q*>(c);
  const float only = *scale;
  const int32_t only_zero = cut<Q, kBits>(*zero);
  if constexpr (kUniform && sizeof(Q) == 1 && kBits == 8) {
    quantize_line(byte_rounding(only, only_zero, std::is_signed_v<Q>), x, n, reinterpret_cast<uint8_t*>(out));
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const int32_t z = kUniform ? only_zero : cut<Q, kBits>(zero[i]);
    const float low = static_cast<float>(kLow - z), high = static_cast<float>(kHigh - z);
    float v = __builtin_rintf(x[i] / (kUniform ? only : scale[i]));
    v = v > low ? v : low;
    v = v < high ? v : high;
    y[i] = static_cast<Q>(static_cast<int32_t>(v) + z);
  }
}

template <bool kUniform, class Q, int kBits = 8 * sizeof(Q)>
void dequantize(char* out, const char* a, const char* b, const char* c, int64_t n, const Step&) {
  float* y = reinterpret_cast<float*>(out);
  const Q *x = reinterpret_cast<const Q*>(a), *zero = reinterpret_cast<const Q*>(c);
  const float* scale = reinterpret_cast<const float*>(b);
  const float only = *scale;
  const auto only_zero = static_cast<uint32_t>(cut<Q, kBits>(*zero));
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t p = static_cast<uint32_t>(cut<Q, kBits>(x[i])), q = kUniform ? only_zero : static_cast<uint32_t>(cut<Q, kBits>(zero[i]));
    y[i] = static_cast<float>(static_cast<int32_t>(p - q)) * (kUniform ? only : scale[i]);  // 32-bit differences wrap, as everywhere
  }
}

void quantize_float8(char* out, const char* a, const char* b, const char*, int64_t n, const Step& s) {
  const Float8Format& format = *float8_format(s.to);
  const float *x = reinterpret_cast<const float*>(a), *scale = reinterpret_cast<const float*>(b);
  const bool saturate = s.floats[0] != 0;
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<char>(write_float8(format, x[i] / scale[i], saturate));
}
void dequantize_float8(char* out, const char* a, const char* b, const char*, int64_t n, const Step& s) {
  const Float8Format& format = *float8_format(s.type);
  float* y = reinterpret_cast<float*>(out);
  const float* scale = reinterpret_cast<const float*>(b);
  for (int64_t i = 0; i < n; ++i) y[i] = read_float8(format, static_cast<uint8_t>(a[i])) * scale[i];
}

template <bool kUniform> Function integer_function(bool there, DType quantized) {
  switch (quantized) {
    case DType::kUint8: return there ? quantize<kUniform, uint8_t, 0, 255> : dequantize<kUniform, uint8_t>;
    case DType::kInt8: return there ? quantize<kUniform, int8_t, -128, 127> : dequantize<kUniform, int8_t>;
    case DType::kUint16: return there ? quantize<kUniform, uint16_t, 0, 65535> : dequantize<kUniform, uint16_t>;
    case DType::kInt16: return there ? quantize<kUniform, int16_t, -32768, 32767> : dequantize<kUniform, int16_t>;
    case DType::kUint4: return there ? quantize<kUniform, uint8_t, 0, 15, 4> : dequantize<kUniform, uint8_t, 4>;
    case DType::kInt4: return there ? quantize<kUniform, int8_t, -8, 7, 4> : dequantize<kUniform, int8_t, 4>;
    case DType::kUint2: return there ? quantize<kUniform, uint8_t, 0, 3, 2> : dequantize<kUniform, uint8_t, 2>;
    case DType::kInt2: return there ? quantize<kUniform, int8_t, -2, 1, 2> : dequantize<kUniform, int8_t, 2>;
    case DType::kInt32: return there ? nullptr : dequantize<kUniform, int32_t>;
    default: return nullptr;
  }
}

}  // namespace

Function quantize_function(Op op, DType real, DType quantized, bool is_uniform) {
  if (real != DType::kFloat) return nullptr;
  const bool there = op == Op::kQuantize;
  const Function found = is_uniform ? integer_function<true>(there, quantized) : integer_function<false>(there, quantized);
  if (found != nullptr || is_uniform) return found;
  if (float8_format(quantized) == nullptr) return nullptr;
  return there ? quantize_float8 : dequantize_float8;
}

}  // namespace graphopt::elementwise
