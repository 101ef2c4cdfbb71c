// The floating-point element types, and what plain kernels compute them with: float for anything narrower.
#pragma once
#include "engine/abi.h"
#include "simd/half.h"

namespace graphopt {

template <class T> struct ComputeType { typedef float type; };
template <> struct ComputeType<double> { typedef double type; };
template <class T> using Compute = typename ComputeType<T>::type;

template <class T> inline float value_of(T element) { return to_float(element); }
inline double value_of(double element) { return element; }

template <class T> inline T element_of(Compute<T> value) {
  if constexpr (sizeof(T) == 8) {
    return value;
  } else {
    T element;
    from_float(value, element);
    return element;
  }
}

// The instance of a template of kernels for the element type; null for others.
#define GRAPHOPT_FOR_FLOATS(dtype, function)             \
  ((dtype) == DType::kFloat      ? function<float>       \
   : (dtype) == DType::kDouble   ? function<double>      \
   : (dtype) == DType::kFloat16  ? function<f16>         \
   : (dtype) == DType::kBfloat16 ? function<bf16>        \
                                 : nullptr)

}  // namespace graphopt
