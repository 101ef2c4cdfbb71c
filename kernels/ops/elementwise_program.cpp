// Names, and the function for a step.
#include "ops/elementwise.h"

namespace graphopt::elementwise {
namespace {

struct OpTraits {
  const char* name;
  int sources, weight;
};
constexpr OpTraits kTraits[kOps] = {
#define GRAPHOPT_OP(name, sources, weight) {#name, sources, weight},
    GRAPHOPT_ELEMENTWISE_OPS(GRAPHOPT_OP)
#undef GRAPHOPT_OP
};

constexpr const char* kTypeNames[] = {
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "float64",
    "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2",
    "float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2"};

}  // namespace

const char* name_of(Op op) { return kTraits[static_cast<int>(op)].name; }
int sources_of(Op op) { return kTraits[static_cast<int>(op)].sources; }
int weight_of(Op op) { return kTraits[static_cast<int>(op)].weight; }
const char* name_of(DType type) {
  const auto i = static_cast<size_t>(type);
  return i < sizeof kTypeNames / sizeof *kTypeNames ? kTypeNames[i] : "unknown";
}

bool find_function(Step& s, int scalars) {
  s.f = s.inner = nullptr;
  constexpr int kUniform = 0b110;  // scale and zero point
  if (s.op == Op::kQuantize || s.op == Op::kDequantize) {
    const bool there = s.op == Op::kQuantize;
    if (scalars == 0 || scalars == kUniform) s.f = quantize_function(s.op, there ? s.type : s.to, there ? s.to : s.type, scalars != 0);
    return s.f != nullptr;
  }
  if (scalars != 0 && s.type != DType::kFloat) return false;
  switch (s.op) {
    case Op::kCopy: case Op::kWhere:
      if (scalars == 0) s.f = select_function(s.op, size_of(s.type));
      return s.f != nullptr;
    case Op::kCast:
      if (scalars == 0) s.f = cast_function(s.type, s.to);
      return s.f != nullptr;
    default: break;
  }
  switch (s.type) {
    case DType::kFloat: s.f = float_function(s.op, scalars); break;
    case DType::kDouble: s.f = double_function(s.op); break;
    case DType::kFloat16: case DType::kBfloat16:
      s.f = narrow_function(s.op, s.type);
      s.inner = float_function(s.op, 0);
      break;
    default: s.f = integer_function(s.op, s.type); break;
  }
  return s.f != nullptr;
}

}  // namespace graphopt::elementwise
