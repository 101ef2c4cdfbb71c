// CumSum and CumProd along an axis. Rows of floats run in double precision; columns go side by side in their own.
//
// cumsum, cumprod   in: x   out: y   ints: axis, exclusive, reverse
#include <type_traits>

#include "ops/arg.h"

namespace graphopt {
namespace {

struct Params {
  AxisPlan plan;
  bool exclusive, reverse;
};

template <bool kProduct, class C>
GRAPHOPT_INLINE C next(C so_far, C x) {
  if constexpr (std::is_integral_v<C>) {
    // Without signs: what overflows wraps.
    const auto a = static_cast<uint64_t>(so_far), b = static_cast<uint64_t>(x);
    return static_cast<C>(kProduct ? a * b : a + b);
  } else {
    return kProduct ? so_far * x : so_far + x;
  }
}

template <bool kProduct, class T>
void run(const Instr& instr, Worker& w) {
  using N = Numbers<T>;
  using C = typename N::C;
  using Total = typename N::Total;
  const Params& p = instr.as<Params>();
  const int64_t n = p.plan.length, first = p.reverse ? n - 1 : 0;
  const int64_t x_step = p.reverse ? -p.plan.x_step : p.plan.x_step, y_step = p.reverse ? -p.plan.y_step : p.plan.y_step;
  over_axis(p.plan, w, [&](int64_t from, int64_t to, int64_t columns, Worker&) {
    const T* x = instr.in[0]->as<T>() + from + first * p.plan.x_step;
    T* y = instr.out[0]->as<T>() + to + first * p.plan.y_step;
    if (p.plan.width == 1) {
      Total sum = kProduct ? 1 : 0;
      for (int64_t i = 0; i < n; ++i) {
        const Total v = static_cast<Total>(N::one(x + i * x_step));
        const Total after = next<kProduct>(sum, v);
        N::put(static_cast<C>(p.exclusive ? sum : after), y + i * y_step);
        sum = after;
      }
      return;
    }
    C sum[kColumns];
    std::fill_n(sum, kColumns, static_cast<C>(kProduct ? 1 : 0));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < columns; ++c) {
        const C after = next<kProduct>(sum[c], N::one(x + i * x_step + c));
        N::put(p.exclusive ? sum[c] : after, y + i * y_step + c);
        sum[c] = after;
      }
  });
}

template <bool kProduct>
Run prepare(Bind& b) {
  const char* name = kProduct ? "cumprod" : "cumsum";
  const Tensor &x = *b.in[0], &y = *b.out[0];
  if (!same_dims(x, y) || x.dtype != y.dtype) b.host->fail("%s: the result is not like the input", name);
  const int axis = axis_of(b, name, b.ints[0], x.rank);
  int same[kMaxRank];
  for (int i = 0; i < kMaxRank; ++i) same[i] = i;
  Params& p = b.make<Params>();
  p.plan = plan_axis(x, y, axis, same, true);
  p.exclusive = b.ints[1] != 0;
  p.reverse = b.ints[2] != 0;
  return for_number(b, name, x.dtype, []<class T>() -> Run { return run<kProduct, T>; });
}

const RegisterKernel cumsum{"cumsum", prepare<false>, shape_like_input};
const RegisterKernel cumprod{"cumprod", prepare<true>, shape_like_input};

}  // namespace
}  // namespace graphopt
