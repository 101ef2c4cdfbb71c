// TopK along an axis, sorted; of equals the lower index first; NaN is larger than every number.
//
// A few of many: a heap of the best so far as pairs (value, index); elements are held against its worst 64 at a time,
// by vectors where they are neighbours. Otherwise all go to scratch memory, are parted, and the chosen ones sorted.
//
// topk   in: x, k? (int64 or int32, one element)   out: values, indices (int64)   ints: axis, largest, k where there is
//        no input 1
#include <algorithm>

#include "ops/arg.h"

namespace graphopt {
namespace {

struct Params {
  AxisPlan plan;
  Loop<2> results;  // the same rows in values and indices
  int64_t k, value_step, index_step;
};

template <class C>
struct Entry {
  C value;
  int64_t index;
};

constexpr int64_t kBlock = 64;

// Whether one of kBlock elements may go before the limit.
template <bool kLargest, class T, class C>
bool any_before(const T* x, int64_t step, C limit) {
  bool any = false;
  if (step == 1)
    for (int64_t i = 0; i < kBlock; ++i) any |= kLargest ? !(Numbers<T>::one(x + i) <= limit) : !(Numbers<T>::one(x + i) >= limit);
  else
    for (int64_t i = 0; i < kBlock; ++i) any |= goes_before<kLargest>(Numbers<T>::one(x + i * step), limit);
  return any;
}

template <bool kLargest, class T>
void select(const Params& p, const T* x, T* values, int64_t* indices, char* scratch) {
  using N = Numbers<T>;
  using E = Entry<typename N::C>;
  E* all = reinterpret_cast<E*>(scratch);
  const int64_t n = p.plan.length;
  const T* row = x;
  const int64_t step = p.plan.x_step;
  const auto before = [](const E& a, const E& b) {
    if (goes_before<kLargest>(a.value, b.value)) return true;
    return !goes_before<kLargest>(b.value, a.value) && a.index < b.index;
  };
  const int64_t start = p.k * 8 <= n ? p.k : n;
  for (int64_t i = 0; i < start; ++i) all[i] = {N::one(row + i * step), i};
  if (start < n) {
    std::make_heap(all, all + p.k, before);
    for (int64_t i = start; i < n; i += kBlock) {
      const int64_t end = std::min(n, i + kBlock);
      if (end - i == kBlock && !any_before<kLargest>(row + i * step, step, all[0].value)) continue;
      for (int64_t j = i; j < end; ++j) {
        const auto v = N::one(row + j * step);
        if (!goes_before<kLargest>(v, all[0].value)) continue;
        std::pop_heap(all, all + p.k, before);
        all[p.k - 1] = {v, j};
        std::push_heap(all, all + p.k, before);
      }
    }
    std::sort_heap(all, all + p.k, before);
  } else {
    if (p.k < n) std::nth_element(all, all + p.k, all + n, before);
    std::sort(all, all + p.k, before);
  }
  for (int64_t i = 0; i < p.k; ++i) {
    // Not through C, which would change the bits of a NaN.
    values[i * p.value_step] = x[all[i].index * p.plan.x_step];
    indices[i * p.index_step] = all[i].index;
  }
}

template <bool kLargest, class T>
void run(const Instr& instr, Worker& w) {
  const Params& p = instr.as<Params>();
  const T* x = instr.in[0]->as<T>();
  T* values = instr.out[0]->as<T>();
  int64_t* indices = instr.out[1]->as<int64_t>();
  if (p.k == 0) return;
  w.parallel(p.plan.outer.count, 1 + kGrainElements / (16 * p.plan.length + 1), [&](int64_t begin, int64_t end, Worker& v) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t from[2], to[2];
      p.plan.outer.locate(i, from);
      p.results.locate(i, to);
      select<kLargest>(p, x + from[0], values + to[0], indices + to[1], v.scratch);
    }
  });
}

int64_t wanted(Bind& b) {
  if (!b.has(1)) return b.ints[2];
  const Tensor& k = *b.in[1];
  if (k.count() != 1) b.host->fail("topk: k of %lld elements", static_cast<long long>(k.count()));
  return k.dtype == DType::kInt32 ? *k.as<int32_t>() : *k.as<int64_t>();
}

void shape(Bind& b) {
  const Tensor& x = *b.in[0];
  const int axis = axis_of(b, "topk", b.ints[0], x.rank);
  for (int n = 0; n < b.n_out; ++n) {
    if (b.out[n] == nullptr) continue;
    b.out[n]->rank = x.rank;
    for (int i = 0; i < x.rank; ++i) b.out[n]->dims[i] = i == axis ? wanted(b) : x.dims[i];
  }
}

Run prepare(Bind& b) {
  const Tensor &x = *b.in[0], &values = *b.out[0], &indices = *b.out[1];
  const int axis = axis_of(b, "topk", b.ints[0], x.rank);
  Params& p = b.make<Params>();
  p.k = values.rank == x.rank ? values.dims[axis] : -1;
  if (p.k < 0 || p.k > x.dims[axis])
    b.host->fail("topk: %lld of %lld elements", static_cast<long long>(p.k), static_cast<long long>(x.dims[axis]));
  if (!same_dims(values, indices) || values.dtype != x.dtype || indices.dtype != DType::kInt64)
    b.host->fail("topk: the results are not alike");
  int same[kMaxRank];
  for (int i = 0; i < kMaxRank; ++i) same[i] = i;
  p.plan = plan_axis(x, values, axis, same, false);
  for (int i = 0; i < x.rank; ++i)
    if (i != axis) p.results.add(x.dims[i], {values.strides[i], indices.strides[i]});
  p.value_step = values.strides[axis];
  p.index_step = indices.strides[axis];
  b.need_scratch(x.dims[axis] * static_cast<int64_t>(sizeof(Entry<double>)));
  const bool largest = b.ints[1] != 0;
  return for_number(b, "topk", x.dtype, [largest]<class T>() -> Run { return largest ? run<true, T> : run<false, T>; });
}

const RegisterKernel topk{"topk", prepare, shape};

}  // namespace
}  // namespace graphopt
