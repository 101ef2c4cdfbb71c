// `gemm.s8`: the product of floats with packed bytes, widened where they are loaded; a scale for each column.
#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

const RegisterKernel gemm_s8{"gemm.s8", prepare_packed_as<int8_t>, shape_packed};

}  // namespace
}  // namespace graphopt
