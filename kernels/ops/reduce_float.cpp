// Reductions of floats.
#include "ops/reduce.h"

namespace graphopt {
namespace {

template <class T>
Run of(const ReduceParams& p, Reduction op) {
  switch (op) {
    case Reduction::kSum: return reduce_of<Reduction::kSum, T>(p);
    case Reduction::kMean: return reduce_of<Reduction::kMean, T>(p);
    case Reduction::kMax: return reduce_of<Reduction::kMax, T>(p);
    case Reduction::kMin: return reduce_of<Reduction::kMin, T>(p);
    case Reduction::kProd: return reduce_of<Reduction::kProd, T>(p);
    case Reduction::kL1: return reduce_of<Reduction::kL1, T>(p);
    case Reduction::kL2: return reduce_of<Reduction::kL2, T>(p);
    case Reduction::kLogSum: return reduce_of<Reduction::kLogSum, T>(p);
    case Reduction::kLogSumExp: return reduce_of<Reduction::kLogSumExp, T>(p);
    case Reduction::kSumSquare: return reduce_of<Reduction::kSumSquare, T>(p);
  }
  return nullptr;
}

}  // namespace

Run reduce_float(const ReduceParams& p, Reduction op, DType dtype) {
  switch (dtype) {
    case DType::kFloat: return of<float>(p, op);
    case DType::kDouble: return of<double>(p, op);
    case DType::kFloat16: return of<f16>(p, op);
    case DType::kBfloat16: return of<bf16>(p, op);
    default: return nullptr;
  }
}

}  // namespace graphopt
