// Single elements of strided tensors: small index and size tensors, element types by number or by size.
#pragma once
#include <cstdio>
#include <string>
#include <type_traits>

#include "engine/abi.h"
#include "simd/half.h"

namespace graphopt {

struct Bytes16 {
  uint64_t half[2];
};

// "[2,3,4]" for messages.
struct ShapeText {
  char text[24 * kMaxRank];
};
inline ShapeText shape_text(const Tensor& t) {
  ShapeText s;
  size_t used = static_cast<size_t>(std::snprintf(s.text, sizeof s.text, "["));
  for (int i = 0; i < t.rank; ++i)
    used += static_cast<size_t>(std::snprintf(s.text + used, sizeof s.text - used, i == 0 ? "%lld" : ",%lld",
                                              static_cast<long long>(t.dims[i])));
  std::snprintf(s.text + used, sizeof s.text - used, "]");
  return s;
}

// For `shape` functions; the strides are the engine's.
inline void set_dims(Tensor& t, int64_t rank, const int64_t* dims) {
  t.rank = static_cast<int32_t>(rank);
  for (int i = 0; i < t.rank; ++i) t.dims[i] = dims[i];
}

// The same with a check, for ranks that inputs decide.
inline void set_rank(Bind& b, Tensor& t, int64_t rank) {
  if (rank > kMaxRank) b.host->fail("rank %lld is above %d", static_cast<long long>(rank), kMaxRank);
  t.rank = static_cast<int32_t>(rank);
}

// An axis counted from the front.
inline int axis_within(const Host& host, int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    host.fail("axis %lld of rank %lld", static_cast<long long>(axis), static_cast<long long>(rank));
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

// Where the k-th element in row-major order lies, in elements.
inline int64_t offset_of(const Tensor& t, int64_t k) {
  int64_t offset = 0;
  for (int d = t.rank - 1; d >= 0; --d) {
    offset += k % t.dims[d] * t.strides[d];
    k /= t.dims[d];
  }
  return offset;
}
template <class T> T& element_at(const Tensor& t, int64_t k) { return t.as<T>()[offset_of(t, k)]; }

// The k-th element of an integer tensor.
inline int64_t integer_at(const Tensor& t, int64_t k) {
  switch (t.dtype) {
    case DType::kInt64: case DType::kUint64: return element_at<int64_t>(t, k);
    case DType::kInt32: return element_at<int32_t>(t, k);
    case DType::kUint32: return element_at<uint32_t>(t, k);
    case DType::kInt16: return element_at<int16_t>(t, k);
    case DType::kUint16: return element_at<uint16_t>(t, k);
    case DType::kInt8: return element_at<int8_t>(t, k);
    default: return element_at<uint8_t>(t, k);
  }
}

// Calls f with a value of the type that stores numbers of `dtype`; not for strings, complex and 8-bit floats.
template <class F> void with_number_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kFloat: return f(float{});
    case DType::kDouble: return f(double{});
    case DType::kFloat16: return f(f16{});
    case DType::kBfloat16: return f(bf16{});
    case DType::kInt64: return f(int64_t{});
    case DType::kInt32: return f(int32_t{});
    case DType::kInt16: return f(int16_t{});
    case DType::kInt8: case DType::kInt4: case DType::kInt2: return f(int8_t{});
    case DType::kUint64: return f(uint64_t{});
    case DType::kUint32: return f(uint32_t{});
    case DType::kUint16: return f(uint16_t{});
    case DType::kUint8: case DType::kUint4: case DType::kUint2: return f(uint8_t{});
    case DType::kBool: return f(false);
    default: return;
  }
}

template <class T, class N> T number_as(N x) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
    T y;
    from_float(static_cast<float>(x), y);
    return y;
  } else if constexpr (std::is_same_v<T, bool>) {
    return x != 0;
  } else {
    return static_cast<T>(x);
  }
}

// Calls f with a value of a type of the element's size: enough to move it. Strings are strings.
template <class F> void with_cell_type(DType dtype, const F& f) {
  if (dtype == DType::kString) return f(std::string());
  switch (size_of(dtype)) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    case 8: return f(uint64_t{});
    default: return f(Bytes16{});
  }
}

// Steps through indices in row-major order with one or two offsets.
template <int kOffsets> struct Odometer {
  int rank = 0;
  int64_t dims[kMaxRank], index[kMaxRank];
  int64_t steps[kOffsets][kMaxRank];
  int64_t at[kOffsets] = {};

  void add(int64_t dim, const int64_t (&step)[kOffsets]) {
    dims[rank] = dim;
    index[rank] = 0;
    for (int o = 0; o < kOffsets; ++o) steps[o][rank] = step[o];
    ++rank;
  }
  int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n = times(n, dims[d]);
    return n;
  }
  void seek(int64_t k) {
    for (int o = 0; o < kOffsets; ++o) at[o] = 0;
    for (int d = rank - 1; d >= 0; --d) {
      index[d] = k % dims[d];
      k /= dims[d];
      for (int o = 0; o < kOffsets; ++o) at[o] += index[d] * steps[o][d];
    }
  }
  void next() {
    for (int d = rank - 1; d >= 0; --d) {
      for (int o = 0; o < kOffsets; ++o) at[o] += steps[o][d];
      if (++index[d] < dims[d]) return;
      for (int o = 0; o < kOffsets; ++o) at[o] -= index[d] * steps[o][d];
      index[d] = 0;
    }
  }
};

}  // namespace graphopt
