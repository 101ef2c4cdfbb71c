// One kernel, called by itself: for tests and measurements.
#pragma once
#include <nanobind/nanobind.h>

#include "engine/library.h"

namespace graphopt {

void bind_direct(nanobind::module_& m, const Library& library);

}  // namespace graphopt
