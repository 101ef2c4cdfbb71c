// The weights of Winograd's convolution F(2x2, 3x3), as the kernel reads them: [16][panel][channels][columns of the panel].
#pragma once
#include "ops/gemm_pack.h"

namespace graphopt {

struct WinogradWeights {
  int64_t channels;
  Panels filters;

  int64_t stride() const { return channels * filters.padded(); }  // floats of one of the 16 matrices
  int64_t bytes() const { return 16 * stride() * 4; }
  int64_t panel(int64_t p) const { return p * kPanel * channels; }
};

}  // namespace graphopt
