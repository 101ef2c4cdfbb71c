// Sizes as expressions over symbols.
#include "engine/errors.h"
#include "engine/program.h"

namespace graphopt {

int64_t Sizes::apply(const Expression& e, int64_t a, int64_t b) const {
  int64_t result = 0;
  switch (e.op) {
    case Op::kConst: return e.a;
    case Op::kSymbol: return symbols_[static_cast<size_t>(e.a)];
    case Op::kAdd:
      if (__builtin_add_overflow(a, b, &result)) fail("a size overflows: %lld + %lld", static_cast<long long>(a), static_cast<long long>(b));
      return result;
    case Op::kMul:
      if (__builtin_mul_overflow(a, b, &result)) fail("a size overflows: %lld * %lld", static_cast<long long>(a), static_cast<long long>(b));
      return result;
    case Op::kFloorDiv:
      // A quotient by 0 belongs to a tensor without elements, or to a Reshape that is an error: its kernel says so.
      if (b == 0) return 0;
      result = a / b;
      return (a % b != 0 && (a < 0) != (b < 0)) ? result - 1 : result;
    case Op::kMin: return a < b ? a : b;
    case Op::kMax: return a > b ? a : b;
    case Op::kBroadcast:
      if (a == b || b == 1) return a;
      if (a == 1) return b;
      fail("dims %lld and %lld do not broadcast", static_cast<long long>(a), static_cast<long long>(b));
  }
  return 0;
}

void Sizes::evaluate(const std::vector<int32_t>& slots) {
  const Expression* all = expressions_->data();
  for (int32_t slot : slots) {
    const Expression& e = all[slot];
    const bool is_leaf = e.op == Op::kConst || e.op == Op::kSymbol;
    values_[slot] = is_leaf ? apply(e, 0, 0) : apply(e, values_[e.a], values_[e.b]);
  }
}

}  // namespace graphopt
