// onehot (indices, depth, values)  ints: axis of the output
//
// values: off, on. A fill and one element for each index; indices of any number type, those outside of [-depth, depth)
// set nothing.
#include <cmath>

#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct OneHot {
  CopyPlan fill;
  Odometer<2> places;  // indices, output; in elements
  int64_t n, step;
  int axis;
};

template <class E, class I> void run_onehot(const Instr& i, Worker& w) {
  const auto& p = i.as<OneHot>();
  const Tensor &indices = *i.in[0], &values = *i.in[2], &out = *i.out[0];
  const E& on = element_at<E>(values, 1);
  copy_parallel(p.fill, reinterpret_cast<const char*>(&element_at<E>(values, 0)), out.data, w);
  const int64_t depth = out.dims[p.axis];
  if (p.n == 0) return;
  Odometer<2> place = p.places;
  place.seek(0);
  for (int64_t k = 0; k < p.n; ++k, place.next()) {
    const I x = indices.as<I>()[place.at[0]];
    int64_t index;
    if constexpr (std::is_same_v<I, f16> || std::is_same_v<I, bf16>) index = static_cast<int64_t>(to_float(x));
    else index = static_cast<int64_t>(x);
    if (index < 0) index += depth;
    if (index >= 0 && index < depth) out.as<E>()[place.at[1] + index * p.step] = on;
  }
}

Run prepare_onehot(Bind& b) {
  const Tensor &indices = *b.in[0], &values = *b.in[2], &out = *b.out[0];
  const int axis = axis_within(*b.host, b.ints[0], indices.rank + 1);
  bool fits = out.rank == indices.rank + 1 && values.count() == 2 && values.dtype == out.dtype;
  for (int d = 0; fits && d < indices.rank; ++d) fits = indices.dims[d] == out.dims[d < axis ? d : d + 1];
  if (!fits)
    b.host->fail("%s is not %s made one-hot along axis %d", shape_text(out).text, shape_text(indices).text, axis);
  auto& p = b.make<OneHot>();
  p.axis = axis;
  p.step = out.strides[axis];
  for (int d = 0; d < indices.rank; ++d)
    p.places.add(indices.dims[d], {indices.strides[d], out.strides[d < axis ? d : d + 1]});
  p.n = p.places.count();
  const int64_t still[kMaxRank] = {};
  p.fill = plan_copy(out.dtype, out.rank, out.dims, still, out.strides);
  Run run = nullptr;
  with_number_type(indices.dtype, [&](auto index) {
    with_cell_type(out.dtype, [&](auto cell) { run = run_onehot<decltype(cell), decltype(index)>; });
  });
  if (run == nullptr) b.host->fail("indices of element type %d", static_cast<int>(indices.dtype));
  return run;
}

void shape_onehot(Bind& b) {
  const Tensor &indices = *b.in[0], &depth = *b.in[1];
  Tensor& out = *b.out[0];
  const int axis = axis_within(*b.host, b.ints[0], indices.rank + 1);
  int64_t n = 0;
  with_number_type(depth.dtype, [&](auto zero) {
    const auto x = element_at<decltype(zero)>(depth, 0);
    if constexpr (std::is_same_v<decltype(zero), f16> || std::is_same_v<decltype(zero), bf16>)
      n = static_cast<int64_t>(to_float(x));
    else n = static_cast<int64_t>(x);
  });
  if (n < 0) b.host->fail("a depth of %lld", static_cast<long long>(n));
  set_rank(b, out, indices.rank + 1);
  for (int d = 0; d < indices.rank; ++d) out.dims[d < axis ? d : d + 1] = indices.dims[d];
  out.dims[axis] = n;
}

const RegisterKernel onehot{"onehot", prepare_onehot, shape_onehot};

}  // namespace
}  // namespace graphopt
