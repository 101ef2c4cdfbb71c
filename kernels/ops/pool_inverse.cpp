// MaxUnpool: each value goes where its index says, zeros elsewhere.
//
// Indices count the elements of a tensor of the inferred size (ints: its spatial dims); a larger output keeps the
// coordinates. Planes in parallel: an index that leaves its plane is an error.
#include <cstring>

#include "ops/registry.h"
#include "ops/window.h"

namespace graphopt {
namespace {

// ints: window; in: x, indices; out: y
struct UnpoolParams {
  int64_t planes, inner, size, plane;  // values a plane, bytes of one, elements of an inferred plane
  int rank;
  int64_t inferred[kWindowAxes], out[kWindowAxes], out_size;
};

void run_unpool(const Instr& instr, Worker& worker) {
  const UnpoolParams& p = instr.as<UnpoolParams>();
  worker.parallel(p.planes, 1, [&](int64_t begin, int64_t end, Worker& me) {
    for (int64_t plane = begin; plane < end; ++plane) {
      char* y = instr.out[0]->data + plane * p.out_size * p.size;
      std::memset(y, 0, static_cast<size_t>(p.out_size * p.size));
      const char* x = instr.in[0]->data + plane * p.inner * p.size;
      const int64_t* indices = instr.in[1]->as<int64_t>() + plane * p.inner;
      for (int64_t i = 0; i < p.inner; ++i) {
        int64_t rest = indices[i] - plane * p.plane, to = 0, step = 1;
        bool inside = rest >= 0 && rest < p.plane;
        for (int a = p.rank - 1; a >= 0 && inside; --a) {
          const int64_t at = rest % p.inferred[a];
          rest /= p.inferred[a];
          inside = at < p.out[a];
          to += at * step;
          step *= p.out[a];
        }
        if (!inside)
          me.host->fail("max.unpool: index %lld of plane %lld is outside the output", static_cast<long long>(indices[i]),
                        static_cast<long long>(plane));
        std::memcpy(y + to * p.size, x + i * p.size, static_cast<size_t>(p.size));
      }
    }
  });
}

void inferred_dims(Bind& b, int64_t* dims) {
  const Tensor& x = *b.in[0];
  const int r = x.rank - 2;
  if (r < 1 || r > kWindowAxes || b.n_ints < window_ints(r)) b.host->fail("max.unpool takes 1 to 3 axes, not %d", r);
  for (int i = 0; i < r; ++i)
    dims[i] = (x.dims[2 + i] - 1) * b.ints[r + i] + b.ints[i] - b.ints[3 * r + i] - b.ints[4 * r + i];
}

Run prepare_unpool(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  auto& p = b.make<UnpoolParams>();
  inferred_dims(b, p.inferred);
  p.rank = x.rank - 2;
  p.planes = x.dims[0] * x.dims[1];
  p.inner = x.product(2, x.rank), p.size = size_of(x.dtype);
  p.plane = 1;
  if (!x.is_dense() || !b.in[1]->is_dense() || !y.is_dense()) b.host->fail("max.unpool takes dense tensors");
  for (int a = 0; a < p.rank; ++a) {
    p.plane *= p.inferred[a];
    p.out[a] = y.dims[2 + a];
  }
  p.out_size = y.product(2, y.rank);
  if (b.in[1]->count() != x.count() || y.dims[0] * y.dims[1] != p.planes)
    b.host->fail("max.unpool: %lld indices for %lld values", static_cast<long long>(b.in[1]->count()),
                 static_cast<long long>(x.count()));
  return run_unpool;
}

void shape_unpool(Bind& b) {
  Tensor& y = *b.out[0];
  y.rank = b.in[0]->rank;
  y.dims[0] = b.in[0]->dims[0], y.dims[1] = b.in[0]->dims[1];
  if (b.has(2)) {
    for (int i = 0; i < y.rank; ++i) y.dims[i] = b.in[2]->as<int64_t>()[i];
  } else {
    inferred_dims(b, y.dims + 2);
  }
}

const RegisterKernel unpool{"max.unpool", prepare_unpool, shape_unpool};

}  // namespace
}  // namespace graphopt
