// A program that can be run from Python, by several threads at once.
#pragma once
#include <nanobind/nanobind.h>

#include "engine/library.h"

namespace graphopt {

void bind_engine(nanobind::module_& m, const Library& library);

}  // namespace graphopt
