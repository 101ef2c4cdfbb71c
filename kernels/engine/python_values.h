// Values of Python as the engine's, and back.
//
// A tensor is (array, element type), or (list of bytes, dims, 8) where it holds strings; a sequence is a list;
// an empty optional is None.
#pragma once
#include <nanobind/nanobind.h>

#include <string>
#include <vector>

#include "engine/values.h"

namespace graphopt {

Value value_of(nanobind::handle given, BufferPool& pool);
nanobind::object python_of(const Value& value);
// Fills `strings` from (list of bytes, dims, 8); the tensor looks at them.
Tensor strings_of(nanobind::tuple given, std::vector<std::string>& strings);

}  // namespace graphopt
