// Casts between all numeric element types, as steps of element-wise programs.
//
// Types that C++ has are cast by plain loops. The others pass through one of them in pieces of 256 elements:
//   16-bit floats, 8- and 4-bit floats   float32 (a double first loses its tail so that rounding happens once)
//   4- and 2-bit integers                int8, uint8; the upper bits of a byte are never looked at, and written as the sign
#include <type_traits>

#include "ops/elementwise.h"
#include "ops/float8.h"

namespace graphopt::elementwise {
namespace {

constexpr int64_t kPiece = 256;

template <class To, class From> To converted(From x) {
  if constexpr (std::is_same_v<To, bool>) {
    return x != 0;
  } else if constexpr (std::is_floating_point_v<From> && std::is_unsigned_v<To> && sizeof(To) == 4) {
    return static_cast<To>(static_cast<int64_t>(x));
  } else if constexpr (std::is_floating_point_v<From> && std::is_unsigned_v<To> && sizeof(To) == 8) {
    return x < 0 ? static_cast<To>(static_cast<int64_t>(x)) : static_cast<To>(x);
  } else if constexpr (std::is_floating_point_v<From> && sizeof(To) < 4) {
    return static_cast<To>(static_cast<int32_t>(x));
  } else {
    return static_cast<To>(x);
  }
}

template <class From, class To> void plain(char* out, const char* a, const char*, const char*, int64_t n, const Step&) {
  To* y = reinterpret_cast<To*>(out);
  const From* x = reinterpret_cast<const From*>(a);
  for (int64_t i = 0; i < n; ++i) y[i] = converted<To>(x[i]);
}

template <class From> Function plain_from(DType to) {
  switch (to) {
    case DType::kFloat: return plain<From, float>;
    case DType::kDouble: return plain<From, double>;
    case DType::kBool: return plain<From, bool>;
    case DType::kInt8: case DType::kInt4: case DType::kInt2: return plain<From, int8_t>;
    case DType::kUint8: case DType::kUint4: case DType::kUint2: return plain<From, uint8_t>;
    case DType::kInt16: return plain<From, int16_t>;
    case DType::kUint16: return plain<From, uint16_t>;
    case DType::kInt32: return plain<From, int32_t>;
    case DType::kUint32: return plain<From, uint32_t>;
    case DType::kInt64: return plain<From, int64_t>;
    case DType::kUint64: return plain<From, uint64_t>;
    default: return nullptr;
  }
}

Function plain_function(DType from, DType to) {
  switch (from) {
    case DType::kFloat: return plain_from<float>(to);
    case DType::kDouble: return plain_from<double>(to);
    case DType::kBool: return plain_from<uint8_t>(to);
    case DType::kInt8: case DType::kInt4: case DType::kInt2: return plain_from<int8_t>(to);
    case DType::kUint8: case DType::kUint4: case DType::kUint2: return plain_from<uint8_t>(to);
    case DType::kInt16: return plain_from<int16_t>(to);
    case DType::kUint16: return plain_from<uint16_t>(to);
    case DType::kInt32: return plain_from<int32_t>(to);
    case DType::kUint32: return plain_from<uint32_t>(to);
    case DType::kInt64: return plain_from<int64_t>(to);
    case DType::kUint64: return plain_from<uint64_t>(to);
    default: return nullptr;
  }
}

// Tables of all codes, one a format.
struct Tables {
  float values[6][256];
  Tables() {
    const Float8Format* formats[5] = {&kE4m3fn, &kE4m3fnuz, &kE5m2, &kE5m2fnuz, &kE2m1};
    for (int code = 0; code < 256; ++code) {
      for (int k = 0; k < 5; ++k) values[k][code] = read_float8(*formats[k], static_cast<uint8_t>(code));
      values[5][code] = read_scale8(static_cast<uint8_t>(code));
    }
  }
};
const Tables tables;

int table_of(DType type) {
  switch (type) {
    case DType::kFloat8e4m3fn: return 0;
    case DType::kFloat8e4m3fnuz: return 1;
    case DType::kFloat8e5m2: return 2;
    case DType::kFloat8e5m2fnuz: return 3;
    case DType::kFloat4e2m1: return 4;
    case DType::kFloat8e8m0: return 5;
    default: return -1;
  }
}

bool is_narrow_float(DType type) {
  return type == DType::kFloat16 || type == DType::kBfloat16 || table_of(type) >= 0;
}

template <class H> void widen(const H* x, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
  for (; i < n; ++i) y[i] = to_float(x[i]);
}
template <class H> void narrow(const float* x, int64_t n, H* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
  for (; i < n; ++i) from_float(x[i], y[i]);
}

void to_floats(DType type, const char* a, int64_t n, float* y) {
  if (type == DType::kFloat16) return widen(reinterpret_cast<const f16*>(a), n, y);
  if (type == DType::kBfloat16) return widen(reinterpret_cast<const bf16*>(a), n, y);
  const float* table = tables.values[table_of(type)];
  for (int64_t i = 0; i < n; ++i) y[i] = table[static_cast<uint8_t>(a[i])];
}

void from_floats(const Step& s, const float* x, int64_t n, char* out) {
  if (s.to == DType::kFloat16) return narrow(x, n, reinterpret_cast<f16*>(out));
  if (s.to == DType::kBfloat16) return narrow(x, n, reinterpret_cast<bf16*>(out));
  const bool saturate = s.floats[0] != 0;
  uint8_t* y = reinterpret_cast<uint8_t*>(out);
  if (s.to == DType::kFloat8e8m0) {
    const auto rounding = static_cast<Scale8Rounding>(static_cast<int>(s.floats[1]));
    for (int64_t i = 0; i < n; ++i) y[i] = write_scale8(x[i], saturate, rounding);
    return;
  }
  const Float8Format& format = *float8_format(s.to);
  for (int64_t i = 0; i < n; ++i) y[i] = write_float8(format, x[i], saturate);
}

// A double as a float whose last bit is set where it was not exact ("rounding to odd"): rounding that to fewer bits gives
// what rounding the double would.
float to_odd(double x) {
  float y = static_cast<float>(x);
  if (static_cast<double>(y) == x || x != x) return y;
  uint32_t bits = bits_of_float(y);
  const bool too_far = std::fabs(static_cast<double>(y)) > std::fabs(x);
  return float_of_bits((too_far ? bits - 1 : bits) | 1u);
}

int bits_of(DType type) {
  switch (type) {
    case DType::kInt4: case DType::kUint4: return 4;
    case DType::kInt2: case DType::kUint2: return 2;
    default: return 8;
  }
}
bool is_signed(DType type) { return type == DType::kInt4 || type == DType::kInt2; }

// Keeps the lower bits of bytes, with their sign.
void cut_bits(DType type, int64_t n, const char* from, char* to) {
  const int drop = 8 - bits_of(type);
  if (is_signed(type)) {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<char>(static_cast<int8_t>(from[i] << drop) >> drop);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<char>(static_cast<uint8_t>(from[i] << drop) >> drop);
  }
}

void staged(char* out, const char* a, const char*, const char*, int64_t n, const Step& s) {
  alignas(64) float first[kPiece], second[kPiece];
  const int64_t from_size = size_of(s.type), to_size = size_of(s.to);
  const bool widens = is_narrow_float(s.type), narrows = is_narrow_float(s.to);
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t m = n - i < kPiece ? n - i : kPiece;
    const char* x = a + i * from_size;
    char* y = out + i * to_size;
    if (widens) {
      to_floats(s.type, x, m, first);
      x = reinterpret_cast<const char*>(first);
    } else if (bits_of(s.type) != 8) {
      cut_bits(s.type, m, x, reinterpret_cast<char*>(first));
      x = reinterpret_cast<const char*>(first);
    }
    const DType type = widens ? DType::kFloat : s.type;
    if (!narrows) {
      plain_function(type, s.to)(y, x, x, x, m, s);
      if (bits_of(s.to) != 8) cut_bits(s.to, m, y, y);
    } else if (type == DType::kDouble) {
      for (int64_t k = 0; k < m; ++k) second[k] = to_odd(reinterpret_cast<const double*>(x)[k]);
      from_floats(s, second, m, y);
    } else if (type == DType::kFloat) {
      from_floats(s, reinterpret_cast<const float*>(x), m, y);
    } else {
      plain_function(type, DType::kFloat)(reinterpret_cast<char*>(second), x, x, x, m, s);
      from_floats(s, second, m, y);
    }
  }
}

}  // namespace

Function cast_function(DType from, DType to) {
  const bool widens = is_narrow_float(from), narrows = is_narrow_float(to);
  if (!widens && !narrows && bits_of(to) == 8 && bits_of(from) == 8) return plain_function(from, to);
  const Function known = plain_function(widens ? DType::kFloat : from, narrows ? DType::kFloat : to);
  return known != nullptr ? staged : nullptr;
}

}  // namespace graphopt::elementwise
