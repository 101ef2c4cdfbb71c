// Copies of operands of a matrix product into the order that tiles read: panels of B, rows of A.
#pragma once
#include <type_traits>

#include "engine/abi.h"
#include "ops/gemm_tile.h"

namespace graphopt {

typedef float v4f __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));
typedef float v4f_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

// to[j * to_stride + i] = from[i * from_stride + j] for i, j < 4.
GRAPHOPT_INLINE void transpose_4x4(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  v4f r[4];
  for (int i = 0; i < 4; ++i) r[i] = *reinterpret_cast<const v4f_unaligned*>(from + i * from_stride);
  const v4f a = __builtin_shuffle(r[0], r[1], v4i{0, 4, 1, 5}), b = __builtin_shuffle(r[2], r[3], v4i{0, 4, 1, 5});
  const v4f c = __builtin_shuffle(r[0], r[1], v4i{2, 6, 3, 7}), d = __builtin_shuffle(r[2], r[3], v4i{2, 6, 3, 7});
  *reinterpret_cast<v4f_unaligned*>(to) = __builtin_shuffle(a, b, v4i{0, 1, 4, 5});
  *reinterpret_cast<v4f_unaligned*>(to + to_stride) = __builtin_shuffle(a, b, v4i{2, 3, 6, 7});
  *reinterpret_cast<v4f_unaligned*>(to + 2 * to_stride) = __builtin_shuffle(c, d, v4i{0, 1, 4, 5});
  *reinterpret_cast<v4f_unaligned*>(to + 3 * to_stride) = __builtin_shuffle(c, d, v4i{2, 3, 6, 7});
}

template <class To, class From>
GRAPHOPT_INLINE To converted(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, double>) {
    To y;
    from_float(static_cast<float>(x), y);
    return y;
  } else {
    To y;
    from_float(to_float(x), y);
    return y;
  }
}

// to[i * to_stride + j] = from[i * i_stride + j * j_stride] for i < rows, j < columns; zeros for columns <= j < width.
template <class To, class From>
void copy_block(const From* from, int64_t i_stride, int64_t j_stride, int64_t rows, int64_t columns, int64_t width,
                To* to, int64_t to_stride) {
  constexpr bool floats = std::is_same_v<To, float> && std::is_same_v<From, float>;
  int64_t done = 0;  // columns
  if (j_stride == 1) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) to[i * to_stride + j] = converted<To>(from[i * i_stride + j]);
    done = columns;
  } else if (floats && i_stride == 1) {
    if constexpr (floats) {
      for (; done + 4 <= columns; done += 4) {
        int64_t i = 0;
        for (; i + 4 <= rows; i += 4) transpose_4x4(from + i + done * j_stride, j_stride, to + i * to_stride + done, to_stride);
        for (; i < rows; ++i)
          for (int64_t j = done; j < done + 4; ++j) to[i * to_stride + j] = from[i + j * j_stride];
      }
    }
  }
  for (int64_t j = done; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) to[i * to_stride + j] = converted<To>(from[i * i_stride + j * j_stride]);
  if (columns < width)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = columns; j < width; ++j) to[i * to_stride + j] = To{};
}

// Calls f(pointer of the element type) for the float types.
template <class F>
bool with_floats(DType dtype, const char* data, const F& f) {
  switch (dtype) {
    case DType::kFloat: f(reinterpret_cast<const float*>(data)); return true;
    case DType::kFloat16: f(reinterpret_cast<const f16*>(data)); return true;
    case DType::kBfloat16: f(reinterpret_cast<const bf16*>(data)); return true;
    default: return false;
  }
}

inline bool is_float(DType dtype) {
  return dtype == DType::kFloat || dtype == DType::kFloat16 || dtype == DType::kBfloat16;
}

// Columns of B in memory: whole panels, then one of one or two vectors.
struct Panels {
  int64_t columns;

  int64_t count() const { return (columns + kPanel - 1) / kPanel; }
  int64_t width(int64_t panel) const { return columns - panel * kPanel > kLanes ? kPanel : kLanes; }
  // Columns, with those that pad.
  int64_t padded() const { return columns == 0 ? 0 : (count() - 1) * kPanel + width(count() - 1); }
};

}  // namespace graphopt
