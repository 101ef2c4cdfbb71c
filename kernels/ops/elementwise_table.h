// Programs from one byte to one byte as tables.
#pragma once
#include "ops/elementwise_plan.h"

namespace graphopt::elementwise {

// Runs a program whose blocks hold `elements` over all bytes; null: it is no table, or its scratch is too large.
Run prepare_table(Bind& b, const Plan& p, int64_t elements, int64_t scratch);

}  // namespace graphopt::elementwise
