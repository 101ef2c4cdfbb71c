// `gemm.f16`: the product with packed weights that are stored in 16 bits and widened where they are loaded.
#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

const RegisterKernel gemm_f16{"gemm.f16", prepare_packed_as<f16>, shape_packed};

}  // namespace
}  // namespace graphopt
