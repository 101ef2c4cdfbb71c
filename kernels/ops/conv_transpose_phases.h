// The phases of a transposed convolution: outputs at positions of equal residue modulo the strides read the same taps.
#pragma once
#include "ops/conv_transpose.h"

namespace graphopt {

// The taps of a residue.
inline int64_t taps_of(int64_t kernel, int64_t stride, int64_t residue) { return residue < kernel ? (kernel - 1 - residue) / stride + 1 : 0; }

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

}  // namespace graphopt
