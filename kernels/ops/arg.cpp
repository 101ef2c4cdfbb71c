// ArgMax and ArgMin: where along an axis the largest or smallest element is. NaN is both, as in numpy.
//
// arg_max, arg_min   in: x   out: y (int64)   ints: axis, keepdims, 1 where the last of equals is taken
#include "ops/arg.h"

namespace graphopt {
namespace {

struct Params {
  AxisPlan plan;
};

// Whether a replaces b, which stands before it.
template <bool kLargest, bool kLast, class C>
GRAPHOPT_INLINE bool replaces(C a, C b) {
  bool found = kLargest ? (kLast ? a >= b : a > b) : (kLast ? a <= b : a < b);
  if constexpr (std::is_floating_point_v<C>) found = (found & (b == b)) | ((a != a) & (kLast | (b == b)));
  return found;
}

template <bool kLargest, bool kLast, class T>
int64_t best_of_row(const T* x, int64_t n, int64_t step) {
  using N = Numbers<T>;
  if (step == 1 && n >= 4 * N::kCount) {
    // The value by vectors, then its place.
    constexpr Reduction kOp = kLargest ? Reduction::kMax : Reduction::kMin;
    const auto best = static_cast<typename N::C>(reduce_row<kOp>(x, n, 1, typename N::C{}));
    const auto is_best = [&](int64_t i) {
      const auto v = N::one(x + i);
      return (v == best) | ((best != best) & (v != v));
    };
    constexpr int64_t kBlock = 64;
    for (int64_t block = 0; block < n; block += kBlock) {
      const int64_t first = kLast ? std::max<int64_t>(0, n - block - kBlock) : block;
      const int64_t last = kLast ? n - block : std::min(n, block + kBlock);
      bool any = false;
      for (int64_t i = first; i < last; ++i) any |= is_best(i);
      if (!any) continue;
      for (int64_t i = first; i < last; ++i) {
        const int64_t at = kLast ? last - 1 - (i - first) : i;
        if (is_best(at)) return at;
      }
    }
  }
  int64_t found = 0;
  auto best = N::one(x);
  for (int64_t i = 1; i < n; ++i) {
    const auto v = N::one(x + i * step);
    if (replaces<kLargest, kLast>(v, best)) best = v, found = i;
  }
  return found;
}

template <bool kLargest, bool kLast, class T>
void best_of_columns(const T* x, int64_t* y, int64_t n, int64_t step, int64_t columns) {
  using C = typename Numbers<T>::C;
  C best[kColumns];
  int32_t found[kColumns] = {};
  for (int64_t c = 0; c < columns; ++c) best[c] = Numbers<T>::one(x + c);
  for (int64_t i = 1; i < n; ++i) {
    const T* row = x + i * step;
    for (int64_t c = 0; c < columns; ++c) {
      const C v = Numbers<T>::one(row + c);
      const bool better = replaces<kLargest, kLast>(v, best[c]);
      best[c] = better ? v : best[c];
      found[c] = better ? static_cast<int32_t>(i) : found[c];
    }
  }
  for (int64_t c = 0; c < columns; ++c) y[c] = found[c];
}

template <bool kLargest, bool kLast, class T>
void run(const Instr& instr, Worker& w) {
  const AxisPlan& p = instr.as<Params>().plan;
  const T* x = instr.in[0]->as<T>();
  int64_t* y = instr.out[0]->as<int64_t>();
  over_axis(p, w, [&](int64_t from, int64_t to, int64_t columns, Worker&) {
    if (p.width > 1) best_of_columns<kLargest, kLast>(x + from, y + to, p.length, p.x_step, columns);
    else y[to] = best_of_row<kLargest, kLast>(x + from, p.length, p.x_step);
  });
}

template <bool kLargest>
Run prepare(Bind& b) {
  const char* name = kLargest ? "arg_max" : "arg_min";
  const Tensor &x = *b.in[0], &y = *b.out[0];
  const int axis = x.rank == 0 ? 0 : axis_of(b, name, b.ints[0], x.rank);
  int y_dim[kMaxRank], next = 0;
  bool fits = y.dtype == DType::kInt64;
  for (int i = 0; i < x.rank; ++i) {
    y_dim[i] = i == axis && !b.ints[1] ? -1 : next++;
    fits = fits && (i == axis || (y_dim[i] < y.rank && y.dims[y_dim[i]] == x.dims[i]));
  }
  if (!fits || next != y.rank) b.host->fail("%s: the result has other dims", name);
  Params& p = b.make<Params>();
  p.plan = plan_axis(x, y, axis, y_dim, x.rank > 0 && x.dims[axis] < INT32_MAX);
  if (p.plan.length == 0 && p.plan.outer.count * p.plan.width > 0)
    b.host->fail("%s: axis %d has no elements", name, axis);
  const bool last = b.ints[2] != 0;
  return for_number(b, name, x.dtype, [last]<class T>() -> Run { return last ? run<kLargest, true, T> : run<kLargest, false, T>; });
}

void shape(Bind& b) {
  const Tensor& x = *b.in[0];
  Tensor& y = *b.out[0];
  const int axis = x.rank == 0 ? 0 : axis_of(b, "arg_max", b.ints[0], x.rank);
  y.rank = 0;
  for (int i = 0; i < x.rank; ++i)
    if (i != axis || b.ints[1]) y.dims[y.rank++] = i == axis ? 1 : x.dims[i];
}

const RegisterKernel arg_max{"arg_max", prepare<true>, shape};
const RegisterKernel arg_min{"arg_min", prepare<false>, shape};

}  // namespace
}  // namespace graphopt
