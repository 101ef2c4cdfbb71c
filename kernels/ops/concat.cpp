// concat  ints: axis. Inputs and output of any strides; each input is one copy into its part of the output, all
//         copies shared out over the threads by bytes. Where an input lies in its part already (its producer wrote it
//         there) nothing moves. As fast as `copy`.
#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Concat {
  int64_t n;
  CopyPlan* plans;
  int64_t* offsets;  // of each part in the output, in bytes
  bool* same_strides;
};

constexpr int64_t kTasks = 32;

void run_concat(const Instr& i, Worker& w) {
  const auto& p = i.as<Concat>();
  char* out = i.out[0]->data;
  CopyTask tasks[kTasks];
  for (int64_t first = 0; first < p.n; first += kTasks) {
    const int64_t n = p.n - first < kTasks ? p.n - first : kTasks;
    for (int64_t k = 0; k < n; ++k) {
      const char* in = i.in[first + k]->data;
      char* part = out + p.offsets[first + k];
      tasks[k] = {in == part && p.same_strides[first + k] ? nullptr : in, part};
    }
    copy_parallel(p.plans + first, tasks, n, w);
  }
}

Run prepare_concat(Bind& b) {
  const Tensor& out = *b.out[0];
  const int axis = axis_within(*b.host, b.ints[0], out.rank);
  auto& p = b.make<Concat>();
  p = {b.n_in, b.array<CopyPlan>(b.n_in), b.array<int64_t>(b.n_in), b.array<bool>(b.n_in)};
  int64_t at = 0;
  for (int k = 0; k < b.n_in; ++k) {
    const Tensor& in = *b.in[k];
    bool fits = in.rank == out.rank && size_of(in.dtype) == size_of(out.dtype);
    bool same = true;
    for (int d = 0; fits && d < in.rank; ++d) {
      fits = d == axis || in.dims[d] == out.dims[d];
      same = same && (in.dims[d] <= 1 || in.strides[d] == out.strides[d]);
    }
    if (!fits) b.host->fail("concat of %s into %s along axis %d", shape_text(in).text, shape_text(out).text, axis);
    p.plans[k] = plan_copy(in.dtype, in.rank, in.dims, in.strides, out.strides);
    p.offsets[k] = at * out.strides[axis] * size_of(out.dtype);
    p.same_strides[k] = same;
    at += in.dims[axis];
  }
  if (at != out.dims[axis])
    b.host->fail("concat of %lld along axis %d into %s", static_cast<long long>(at), axis, shape_text(out).text);
  return run_concat;
}

void shape_concat(Bind& b) {
  Tensor& out = *b.out[0];
  set_dims(out, b.in[0]->rank, b.in[0]->dims);
  const int axis = axis_within(*b.host, b.ints[0], out.rank);
  for (int k = 1; k < b.n_in; ++k) {
    if (b.in[k]->rank != out.rank) b.host->fail("concat of %s and %s", shape_text(out).text, shape_text(*b.in[k]).text);
    out.dims[axis] += b.in[k]->dims[axis];
  }
}

const RegisterKernel concat{"concat", prepare_concat, shape_concat};

}  // namespace
}  // namespace graphopt
