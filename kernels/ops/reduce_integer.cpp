// Reductions of integers and booleans, in their own type.
#include "ops/reduce.h"

namespace graphopt {
namespace {

template <class T>
Run extreme(const ReduceParams& p, Reduction op) {
  if (op == Reduction::kMax) return reduce_of<Reduction::kMax, T>(p);
  return op == Reduction::kMin ? reduce_of<Reduction::kMin, T>(p) : nullptr;
}

template <class T>
Run any(const ReduceParams& p, Reduction op) {
  switch (op) {
    case Reduction::kSum: return reduce_of<Reduction::kSum, T>(p);
    case Reduction::kMean: return reduce_of<Reduction::kMean, T>(p);
    case Reduction::kProd: return reduce_of<Reduction::kProd, T>(p);
    case Reduction::kL1: return reduce_of<Reduction::kL1, T>(p);
    case Reduction::kSumSquare: return reduce_of<Reduction::kSumSquare, T>(p);
    default: return extreme<T>(p, op);
  }
}

}  // namespace

Run reduce_integer(const ReduceParams& p, Reduction op, DType dtype) {
  switch (dtype) {
    case DType::kInt8: return extreme<int8_t>(p, op);
    case DType::kUint8: return extreme<uint8_t>(p, op);
    case DType::kBool: return extreme<bool>(p, op);
    case DType::kInt16: return extreme<int16_t>(p, op);
    case DType::kUint16: return extreme<uint16_t>(p, op);
    case DType::kInt32: return any<int32_t>(p, op);
    case DType::kUint32: return any<uint32_t>(p, op);
    case DType::kInt64: return any<int64_t>(p, op);
    case DType::kUint64: return any<uint64_t>(p, op);
    default: return nullptr;
  }
}

}  // namespace graphopt
