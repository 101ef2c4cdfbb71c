// `gemm`: the product with packed f32 weights.
#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

const RegisterKernel gemm{"gemm", prepare_packed_as<float>, shape_packed};

}  // namespace
}  // namespace graphopt
