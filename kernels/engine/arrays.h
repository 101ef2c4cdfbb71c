// Arrays of Python as tensors, and back. Element types that numpy does not know arrive as integers of their size.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "engine/abi.h"

namespace graphopt {

using Array = nanobind::ndarray<nanobind::ro>;

// The tensor that looks at the array's memory. Raises ExecutionError where the rank is too high.
Tensor tensor_of(const Array& array, DType dtype);

// A numpy array over memory that `owner` keeps alive, as integers or floats of the element's size.
nanobind::object array_of(const Tensor& tensor, nanobind::handle owner);

}  // namespace graphopt
