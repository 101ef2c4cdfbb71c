// Transposed convolution of float32 with constant weights: one dense convolution of stride 1 a phase.
//
// With stride s the outputs at positions of equal residue modulo s read the same taps: every s-th of them, in reverse
// order, over neighbouring inputs. Each of these convolutions has its own panels and writes every s-th position.
#include "ops/conv_direct.h"
#include "ops/conv_transpose_phases.h"

namespace graphopt {
namespace {

// in: x, packed weights, bias?, none
struct PhasesParams {
  int64_t count;
  DirectPlan* phases;
};

void run_phases(const Instr& instr, Worker& worker) {
  const PhasesParams& p = instr.as<PhasesParams>();
  for (int64_t i = 0; i < p.count; ++i) run_plan(p.phases[i], instr, worker);
}

// The convolution of a phase; false where it has no positions.
bool window_of(const Window& g, const Phase& phase, Window* w, int64_t* y_offset) {
  *w = g;
  *y_offset = 0;
  for (int a = 0; a < kWindowAxes; ++a) {
    const int64_t s = g.stride[a], r = phase.residue[a], taps = phase.taps[a];
    const int64_t first = g.pad[a] > r ? ceil_div(g.pad[a] - r, s) : 0;  // of the quotients (output + pad) / stride
    const int64_t at = first * s + r - g.pad[a];
    if (at >= g.out[a]) return false;
    w->out[a] = (g.out[a] - 1 - at) / s + 1;
    w->kernel[a] = taps > 0 ? taps : 1;
    w->stride[a] = w->dilation[a] = 1;
    w->pad[a] = taps - 1 - first;
    w->pad_end[a] = w->out[a] - 1 + taps - g.in[a] - w->pad[a];
    w->y[a] = g.y[a] * s;
    *y_offset += at * g.y[a];
  }
  return true;
}

Run prepare_phases(Bind& b) {
  const Tensor& x = *b.in[0];
  auto& p = b.make<PhasesParams>();
  Window g = read_transpose(b);
  const int64_t filters = b.ints[0], groups = b.ints[1];
  if (x.dtype != DType::kFloat) b.host->fail("conv.transpose.direct takes float32, not element type %d", static_cast<int>(x.dtype));
  if (groups < 1 || x.dims[1] % groups != 0 || filters % groups != 0)
    b.host->fail("conv.transpose.direct: %lld channels and %lld filters in %lld groups", static_cast<long long>(x.dims[1]),
                 static_cast<long long>(filters), static_cast<long long>(groups));
  for (int a = 0; a < kWindowAxes; ++a)
    if (g.dilation[a] != 1 && g.kernel[a] != 1) b.host->fail("conv.transpose.direct takes no dilations");
  take_transpose_output(b, g);
  if (b.has(2) && b.in[2]->dims[0] != filters)
    b.host->fail("transposed convolution has %lld filters but a bias of %lld", static_cast<long long>(filters),
                 static_cast<long long>(b.in[2]->dims[0]));
  p.phases = b.array<DirectPlan>(g.stride[0] * g.stride[1] * g.stride[2]);
  int64_t weights = 0;
  for_phases(g.kernel, g.stride, [&](const Phase& phase) {
    DirectPlan d{};
    d.groups = groups, d.channels = x.dims[1] / groups, d.filters = filters / groups;
    d.weights_offset = weights;
    const int64_t depth = phase.all() * d.channels;
    weights += groups * depth * conv_padded(d.filters);
    d.end = read_conv_end(b, transpose_ints(g.rank));
    if (!window_of(g, phase, &d.window, &d.y_offset)) return;
    plan_direct(b, d);
    if (phase.all() == 0) d.depth = 0, d.copies = false;
    p.phases[p.count++] = d;
  });
  if (b.in[1]->count() != weights * 4)
    b.host->fail("conv.transpose.direct has %lld bytes of weights where it needs %lld", static_cast<long long>(b.in[1]->count()),
                 static_cast<long long>(weights * 4));
  return run_phases;
}

void shape_phases(Bind& b) { set_transpose_dims(b, read_transpose(b), *b.out[0]); }

const RegisterKernel direct{"conv.transpose.direct", prepare_phases, shape_phases};

}  // namespace
}  // namespace graphopt
