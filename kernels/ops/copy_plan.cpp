#include "ops/copy_plan.h"

#include "ops/copy_tiles.h"

namespace graphopt {
namespace {

using Inner = void (*)(const char*, char*, const CopyAxis&, const CopyAxis&);

constexpr int64_t kPiece = 64 << 10;  // bytes that are worth another thread

int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

// Whether x comes outside of y: the output's order, then the input's.
bool outside(const CopyAxis& x, const CopyAxis& y) {
  return x.to != y.to ? x.to > y.to : magnitude(x.from) > magnitude(y.from);
}

// The axes that count, sorted by the output's strides and joined. Axes that run backwards in the output are turned.
int sorted_axes(int64_t size, int rank, const int64_t* dims, const int64_t* from, const int64_t* to, CopyAxis* axes,
                CopyPlan& plan) {
  int n = 0;
  for (int i = 0; i < rank; ++i) {
    if (dims[i] == 1) continue;
    CopyAxis axis{dims[i], from[i] * size, to[i] * size};
    if (axis.to < 0) {
      plan.from += (axis.n - 1) * axis.from;
      plan.to += (axis.n - 1) * axis.to;
      axis.from = -axis.from;
      axis.to = -axis.to;
    }
    int at = n++;
    for (; at > 0 && outside(axis, axes[at - 1]); --at) axes[at] = axes[at - 1];
    axes[at] = axis;
  }
  int joined = 0;
  for (int i = 0; i < n; ++i) {
    CopyAxis& last = axes[joined > 0 ? joined - 1 : 0];
    const CopyAxis& next = axes[i];
    if (joined > 0 && last.from == next.from * next.n && last.to == next.to * next.n) {
      last = {last.n * next.n, next.from, next.to};
    } else {
      axes[joined++] = next;
    }
  }
  return joined;
}

void remove(CopyAxis* axes, int& n, int at) {
  for (int i = at; i + 1 < n; ++i) axes[i] = axes[i + 1];
  --n;
}

template <class E, int N> Inner choose_element(CopyPlan& plan, CopyAxis* axes, int& n) {
  constexpr int64_t size = sizeof(E);
  plan.a = plan.b = CopyAxis{1, 0, 0};
  if (n == 0) return copy_strided<E>;
  plan.a = axes[--n];
  // The axis that the input has innermost.
  int best = -1;
  for (int i = n - 1; i >= 0; --i) {
    if (axes[i].from == 0) continue;
    if (best < 0 || magnitude(axes[i].from) < magnitude(axes[best].from)) best = i;
  }
  if (plan.a.from == 0 && plan.a.to == size) {
    if (n > 0) plan.b = axes[--n];
    return copy_fill<E>;
  }
  if (best >= 0 && magnitude(axes[best].from) < magnitude(plan.a.from)) {
    plan.b = axes[best];
    remove(axes, n, best);
    if constexpr (N > 0)
      if (plan.a.to == size && plan.b.from == size) return copy_transposed<E, N>;
  } else if (n > 0) {
    plan.b = axes[--n];
  }
  return copy_strided<E>;
}

Inner choose(CopyPlan& plan, int64_t size, CopyAxis* axes, int& n) {
  int64_t run = size;
  if (n > 0 && axes[n - 1].from == size && axes[n - 1].to == size) run *= axes[--n].n;
  switch (run) {
    case 1: return choose_element<uint8_t, 16>(plan, axes, n);
    case 2: return choose_element<uint16_t, kTileOf2>(plan, axes, n);
    case 4: return choose_element<uint32_t, kTileOf4>(plan, axes, n);
    case 8: return choose_element<uint64_t, kTileOf8>(plan, axes, n);
    case 16: return choose_element<Bytes16, 0>(plan, axes, n);
    default: break;
  }
  plan.b = {run, 1, 1};
  plan.a = n > 0 ? axes[--n] : CopyAxis{1, 0, 0};
  return copy_rows;
}

// Cuts one of the inner axes if the outer ones are too few for threads.
void cut(CopyPlan& plan) {
  int64_t outer = 1;
  for (int i = 0; i < plan.n_outer; ++i) outer *= plan.outer[i].n;
  const int64_t each = plan.bytes / outer;
  plan.cuts = 1;
  plan.cut_b = plan.inner == copy_rows ? plan.a.n == 1 : plan.b.n > plan.a.n;
  const int64_t n = plan.cut_b ? plan.b.n : plan.a.n;
  plan.chunk = n;
  if (each > 2 * kPiece && outer < 64) {
    // Whole blocks of transposes and whole lines of rows.
    plan.chunk = (n * kPiece / each + 63) / 64 * 64;
    if (plan.inner == copy_rows && !plan.cut_b) plan.chunk = n * kPiece / each + 1;
    plan.cuts = (n + plan.chunk - 1) / plan.chunk;
  }
  plan.jobs = outer * plan.cuts;
}

}  // namespace

CopyPlan plan_copy(DType dtype, int rank, const int64_t* dims, const int64_t* from, const int64_t* to) {
  CopyPlan plan{};
  const int64_t size = size_of(dtype);
  plan.bytes = size;
  for (int i = 0; i < rank; ++i) plan.bytes = times(plan.bytes, dims[i]);
  if (plan.bytes == 0) return plan;
  CopyAxis axes[kMaxAxes];
  int n = sorted_axes(size, rank, dims, from, to, axes, plan);
  if (dtype == DType::kString) {
    plan.a = n > 0 ? axes[--n] : CopyAxis{1, 0, 0};
    plan.b = n > 0 ? axes[--n] : CopyAxis{1, 0, 0};
    plan.inner = copy_strings;
  } else {
    plan.inner = choose(plan, size, axes, n);
  }
  plan.n_outer = n;
  for (int i = 0; i < n; ++i) plan.outer[i] = axes[i];
  cut(plan);
  return plan;
}

CopyPlan plan_copy(const Tensor& in, const Tensor& out) {
  return plan_copy(out.dtype, out.rank, out.dims, in.strides, out.strides);
}

void copy_jobs(const CopyPlan& plan, const char* in, char* out, int64_t begin, int64_t end) {
  if (begin >= end) return;
  in += plan.from;
  out += plan.to;
  if (plan.jobs == 1) return plan.inner(in, out, plan.a, plan.b);
  int64_t index[kMaxAxes];
  int64_t piece = begin % plan.cuts, rest = begin / plan.cuts;
  for (int d = plan.n_outer - 1; d >= 0; --d) {
    index[d] = rest % plan.outer[d].n;
    rest /= plan.outer[d].n;
    in += index[d] * plan.outer[d].from;
    out += index[d] * plan.outer[d].to;
  }
  for (int64_t job = begin; job < end; ++job) {
    if (plan.cuts == 1) {
      plan.inner(in, out, plan.a, plan.b);
    } else {
      CopyAxis a = plan.a, b = plan.b;
      CopyAxis& axis = plan.cut_b ? b : a;
      const int64_t first = piece * plan.chunk;
      axis.n = axis.n - first < plan.chunk ? axis.n - first : plan.chunk;
      plan.inner(in + first * axis.from, out + first * axis.to, a, b);
      if (++piece < plan.cuts) continue;
      piece = 0;
    }
    for (int d = plan.n_outer - 1; d >= 0; --d) {
      const CopyAxis& axis = plan.outer[d];
      in += axis.from;
      out += axis.to;
      if (++index[d] < axis.n) break;
      in -= index[d] * axis.from;
      out -= index[d] * axis.to;
      index[d] = 0;
    }
  }
}

void copy_parallel(const CopyPlan& plan, const char* in, char* out, Worker& w) {
  if (plan.jobs == 0) return;
  const int64_t grain = plan.jobs * kPiece / plan.bytes + 1;
  w.parallel(plan.jobs, grain, [&](int64_t begin, int64_t end, Worker&) { copy_jobs(plan, in, out, begin, end); });
}

void copy_parallel(const CopyPlan* plans, const CopyTask* tasks, int64_t n, Worker& w) {
  int64_t total = 0;
  for (int64_t i = 0; i < n; ++i) total += plans[i].bytes;
  // Split by bytes: each plan does its share of its jobs.
  w.parallel(total, kPiece, [&](int64_t begin, int64_t end, Worker&) {
    int64_t first = 0;
    for (int64_t i = 0; i < n && first < end; ++i) {
      const CopyPlan& plan = plans[i];
      const int64_t last = first + plan.bytes;
      if (plan.jobs > 0 && last > begin && tasks[i].in != nullptr) {
        const double scale = static_cast<double>(plan.jobs) / static_cast<double>(plan.bytes);
        const auto job_at = [&](int64_t byte) {
          if (byte <= first) return int64_t{0};
          if (byte >= last) return plan.jobs;
          return static_cast<int64_t>(static_cast<double>(byte - first) * scale);
        };
        copy_jobs(plan, tasks[i].in, tasks[i].out, job_at(begin), job_at(end));
      }
      first = last;
    }
  });
}

}  // namespace graphopt
