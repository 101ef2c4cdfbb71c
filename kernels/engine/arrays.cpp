#include "engine/arrays.h"

#include <algorithm>

#include "engine/errors.h"
#include "engine/plan.h"

namespace nb = nanobind;

namespace graphopt {
namespace {

nb::dlpack::dtype element_of(DType dtype) {
  using nb::dlpack::dtype_code;
  auto make = [](dtype_code code, int bits) { return nb::dlpack::dtype{static_cast<uint8_t>(code), static_cast<uint8_t>(bits), 1}; };
  switch (dtype) {
    case DType::kFloat: return make(dtype_code::Float, 32);
    case DType::kDouble: return make(dtype_code::Float, 64);
    case DType::kFloat16: return make(dtype_code::Float, 16);
    case DType::kComplex64: return make(dtype_code::Complex, 64);
    case DType::kComplex128: return make(dtype_code::Complex, 128);
    case DType::kBool: return make(dtype_code::Bool, 8);
    case DType::kInt8: case DType::kInt4: case DType::kInt2: return make(dtype_code::Int, 8);
    case DType::kInt16: return make(dtype_code::Int, 16);
    case DType::kInt32: return make(dtype_code::Int, 32);
    case DType::kInt64: return make(dtype_code::Int, 64);
    case DType::kUint16: case DType::kBfloat16: return make(dtype_code::UInt, 16);
    case DType::kUint32: return make(dtype_code::UInt, 32);
    case DType::kUint64: return make(dtype_code::UInt, 64);
    default: return make(dtype_code::UInt, 8);
  }
}

}  // namespace

Tensor tensor_of(const Array& array, DType dtype) {
  if (array.ndim() > kMaxRank) fail("rank %zu is above %d", array.ndim(), kMaxRank);
  Tensor t;
  t.data = const_cast<char*>(static_cast<const char*>(array.data()));
  t.dtype = dtype;
  t.rank = static_cast<int32_t>(array.ndim());
  for (int i = 0; i < t.rank; ++i) {
    t.dims[i] = static_cast<int64_t>(array.shape(i));
    t.strides[i] = array.stride(i);
  }
  return t;
}

nb::object array_of(const Tensor& tensor, nb::handle owner) {
  // numpy counts the bytes of all dims but those of 0.
  int64_t bytes = size_of(tensor.dtype);
  bool is_held = true;
  for (int i = 0; i < tensor.rank; ++i) is_held = is_held && !__builtin_mul_overflow(bytes, std::max<int64_t>(1, tensor.dims[i]), &bytes);
  if (!is_held) fail("numpy has no arrays with dims as large as those of %s", described(tensor).c_str());
  size_t dims[kMaxRank];
  for (int i = 0; i < tensor.rank; ++i) dims[i] = static_cast<size_t>(tensor.dims[i]);
  return nb::cast(nb::ndarray<nb::numpy>(tensor.data, static_cast<size_t>(tensor.rank), dims, owner, tensor.strides, element_of(tensor.dtype)));
}

}  // namespace graphopt
