// What the products of two run-time operands share, for all element types.
#pragma once
#include "ops/gemm_end.h"

namespace graphopt {

// Operands: A, B, bias [N], residual; ints [activation, flags]; floats [alpha, p, q, beta].
// Vectors have become matrices of one row or column, transposition is in the strides.
struct Factors {
  Tensor a, b, c;
  Extent extent;
  int64_t depth, columns;
  int64_t a_step, b_row, b_step;  // strides of A along K, of B along K and N
};

Factors make_factors(const Bind& b);
void shape_matmul(Bind& b);

// Element types without vector code: double and integers.
Run prepare_plain(Bind& b, const Factors& f);

// Strassen's product where it is faster: null for smaller products, and for those with more to do at their end.
constexpr int64_t kStrassenSize = 3072;
Run prepare_strassen(Bind& b, const Factors& f);

}  // namespace graphopt
