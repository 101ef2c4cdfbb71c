// Floats of 8 and 4 bits: tables to read them, rounding (nearest, halves to even) to write them.
#pragma once
#include <cmath>

#include "engine/abi.h"
#include "simd/half.h"

namespace graphopt {

// sign, exponent, mantissa; the value of a code is 2^(exponent - bias) * 1.mantissa, below the first exponent 0.mantissa.
struct Float8Format {
  int mantissa_bits, bias, total_bits;
  int largest;      // code of the largest finite number
  int infinity;     // -1: there is none
  int nan;          // -1: there is none
  bool nan_is_minus_zero;
};

constexpr Float8Format kE4m3fn{3, 7, 8, 0x7e, -1, 0x7f, false};
constexpr Float8Format kE4m3fnuz{3, 8, 8, 0x7f, -1, 0x80, true};
constexpr Float8Format kE5m2{2, 15, 8, 0x7b, 0x7c, 0x7e, false};
constexpr Float8Format kE5m2fnuz{2, 16, 8, 0x7f, -1, 0x80, true};
constexpr Float8Format kE2m1{1, 1, 4, 0x7, -1, -1, false};

constexpr const Float8Format* float8_format(DType type) {
  switch (type) {
    case DType::kFloat8e4m3fn: return &kE4m3fn;
    case DType::kFloat8e4m3fnuz: return &kE4m3fnuz;
    case DType::kFloat8e5m2: return &kE5m2;
    case DType::kFloat8e5m2fnuz: return &kE5m2fnuz;
    case DType::kFloat4e2m1: return &kE2m1;
    default: return nullptr;
  }
}

inline float read_float8(const Float8Format& f, uint8_t code) {
  const int sign_bit = 1 << (f.total_bits - 1);
  if (f.nan_is_minus_zero && code == sign_bit) return __builtin_nanf("");
  const int rest = code & (sign_bit - 1);
  const float sign = code & sign_bit ? -1.0f : 1.0f;
  if (f.infinity >= 0 && rest >= f.infinity) return rest == f.infinity ? sign * __builtin_inff() : __builtin_nanf("");
  if (f.nan >= 0 && !f.nan_is_minus_zero && rest == f.nan) return __builtin_nanf("");
  const int exponent = rest >> f.mantissa_bits, mantissa = rest & ((1 << f.mantissa_bits) - 1);
  const int whole = exponent == 0 ? mantissa : mantissa | 1 << f.mantissa_bits;
  return sign * std::ldexp(static_cast<float>(whole), (exponent == 0 ? 1 : exponent) - f.bias - f.mantissa_bits);
}

inline uint8_t write_float8(const Float8Format& f, float x, bool saturate) {
  const int sign = std::signbit(x) ? 1 << (f.total_bits - 1) : 0;
  if (x != x) return static_cast<uint8_t>(f.nan < 0 ? 1 << (f.total_bits - 1) : f.nan_is_minus_zero ? f.nan : f.nan | sign);
  const float a = std::fabs(x);
  int code;
  if (a >= 1e6f) {
    code = f.largest + 1;
  } else {
    int exponent = a == 0 ? 1 - f.bias : std::ilogb(a);
    if (exponent < 1 - f.bias) exponent = 1 - f.bias;
    const int whole = static_cast<int>(std::nearbyint(std::ldexp(a, f.mantissa_bits - exponent)));
    code = ((exponent + f.bias) << f.mantissa_bits) + whole - (1 << f.mantissa_bits);  // a carry raises the exponent
  }
  if (code > f.largest) {
    if (saturate || f.nan < 0) {
      code = f.largest;
    } else {
      if (f.nan_is_minus_zero) return static_cast<uint8_t>(f.nan);
      code = f.infinity >= 0 ? f.infinity : f.nan;
    }
  }
  if (code == 0 && f.nan_is_minus_zero) return 0;
  return static_cast<uint8_t>(code | sign);
}

// Powers of two, 2^(code - 127); 255 is NaN. No sign, no zero.
inline float read_scale8(uint8_t code) {
  if (code == 255) return __builtin_nanf("");
  return code == 0 ? 0x1p-127f : float_of_bits(static_cast<uint32_t>(code) << 23);
}
enum class Scale8Rounding { kUp = 0, kDown = 1, kNearest = 2 };
inline uint8_t write_scale8(float x, bool saturate, Scale8Rounding rounding) {
  if (x != x) return 255;
  const uint32_t bits = bits_of_float(std::fabs(x));
  if (bits >= 0x7f800000u) return saturate ? 254 : 255;
  uint32_t code = bits >> 23;
  const uint32_t mantissa = bits & 0x7fffffu;
  bool up = false;
  if (rounding == Scale8Rounding::kUp) up = code == 0 ? mantissa > 0x400000u : mantissa != 0;
  if (rounding == Scale8Rounding::kNearest) up = code == 0 ? mantissa >= 0x600000u : mantissa >= 0x400000u;
  code += up;
  return static_cast<uint8_t>(code < 255 ? code : saturate ? 254 : 255);
}

}  // namespace graphopt
