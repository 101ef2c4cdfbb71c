// Transposed convolution of float32 with constant weights: one dense convolution of stride 1 a phase.
//
// With stride s the outputs at positions of equal residue modulo s read the same taps: every s-th of them, in reverse
// order, over neighbouring inputs. Each of these convolutions has its own panels and writes every s-th position.
#include "ops/conv_direct.h"
#include "ops/conv_transpose.h"
#include "ops/float_types.h"

namespace graphopt {
namespace {

// in: x, packed weights, bias?, none
struct PhasesParams {
  int64_t count;
  DirectPlan* phases;
};

// The taps of a residue.
int64_t taps_of(int64_t kernel, int64_t stride, int64_t residue) { return residue < kernel ? (kernel - 1 - residue) / stride + 1 : 0; }

struct Phase {
  int64_t residue[kWindowAxes], taps[kWindowAxes];
  int64_t all() const { return taps[0] * taps[1] * taps[2]; }
};

// Calls f for all phases, in the order in which their weights are packed.
template <class F> void for_phases(const int64_t* kernel, const int64_t* stride, const F& f) {
  Phase p;
  for (p.residue[0] = 0; p.residue[0] < stride[0]; ++p.residue[0])
    for (p.residue[1] = 0; p.residue[1] < stride[1]; ++p.residue[1])
      for (p.residue[2] = 0; p.residue[2] < stride[2]; ++p.residue[2]) {
        for (int a = 0; a < kWindowAxes; ++a) p.taps[a] = taps_of(kernel[a], stride[a], p.residue[a]);
        f(p);
      }
}

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

// Weights of dims (channels, filters of a group, kernel...); ints: groups, strides.
struct Sources {
  int64_t groups, channels, filters, padded;
  int64_t kernel[kWindowAxes] = {1, 1, 1}, stride[kWindowAxes] = {1, 1, 1}, step[kWindowAxes] = {0, 0, 0};
  explicit Sources(const PackRequest& r) {
    const Tensor& w = r.sources[0];
    groups = r.ints[0];
    channels = w.dims[0] / groups, filters = w.dims[1], padded = conv_padded(filters);
    const int rank = w.rank - 2;
    for (int i = 0; i < rank; ++i) {
      const int a = kWindowAxes - rank + i;
      kernel[a] = w.dims[2 + i], step[a] = w.strides[2 + i], stride[a] = r.ints[1 + i];
    }
  }
};

// Calls f(offset in the source, index in the packed form).
template <class F> int64_t for_weights(const Sources& s, const Tensor& w, const F& f) {
  int64_t begin = 0;
  for_phases(s.kernel, s.stride, [&](const Phase& phase) {
    const int64_t depth = phase.all() * s.channels;
    for (int64_t group = 0; group < s.groups; ++group)
      for (int64_t t = 0; t < phase.all(); ++t) {
        int64_t rest = t, offset = 0;
        for (int a = kWindowAxes - 1; a >= 0; --a) {
          const int64_t reversed = phase.taps[a] - 1 - rest % phase.taps[a];
          rest /= phase.taps[a];
          offset += (phase.residue[a] + reversed * s.stride[a]) * s.step[a];
        }
        for (int64_t c = 0; c < s.channels; ++c)
          for (int64_t j = 0; j < s.filters; ++j) {
            const int64_t first = j / kConvPanel * kConvPanel, width = s.padded - first < kConvPanel ? s.padded - first : kConvPanel;
            f(offset + (group * s.channels + c) * w.strides[0] + j * w.strides[1],
              begin + group * depth * s.padded + first * depth + (t * s.channels + c) * width + j - first);
          }
      }
    begin += s.groups * depth * s.padded;
  });
  return begin;
}

int64_t bytes_phases(const PackRequest& r) {
  const Sources s(r);
  int64_t taps = 0;
  for_phases(s.kernel, s.stride, [&](const Phase& phase) { taps += phase.all(); });
  return s.groups * taps * s.channels * s.padded * 4;
}

void pack_phases(const PackRequest& r, char* packed) {
  const Tensor& w = r.sources[0];
  auto* to = reinterpret_cast<float*>(packed);
  auto pack = [&](auto* from) { for_weights(Sources(r), w, [&](int64_t at, int64_t index) { to[index] = to_float(from[at]); }); };
  if (w.dtype == DType::kFloat) pack(w.as<float>());
  else if (w.dtype == DType::kFloat16) pack(w.as<f16>());
  else if (w.dtype == DType::kBfloat16) pack(w.as<bf16>());
  else r.host->fail("weights of element type %d are not packed for conv.transpose.direct", static_cast<int>(w.dtype));
}

void unpack_phases(const PackRequest& r, const char* packed, Tensor* sources) {
  const auto* from = reinterpret_cast<const float*>(packed);
  auto unpack = [&](auto* to) {
    for_weights(Sources(r), sources[0], [&](int64_t at, int64_t index) { from_float(from[index], to[at]); });
  };
  if (sources[0].dtype == DType::kFloat) unpack(sources[0].as<float>());
  else if (sources[0].dtype == DType::kFloat16) unpack(sources[0].as<f16>());
  else unpack(sources[0].as<bf16>());
}

const RegisterPacker packed{"conv.transpose.direct", bytes_phases, pack_phases, unpack_phases};

}  // namespace
}  // namespace graphopt
