// Element-wise programs: what their bytes say, and where the functions come from that run a step over a block.
//
//   bytes    header, constants, steps
//   header   steps, constants, temporaries, 0           (one byte each)
//   constant element type, source, index (2 bytes)      source 0: floats[index], 1: ints[index]
//   step     opcode, type of the sources, type of the result, slot of the result, slots of three sources,
//            index of its first immediate in floats     (one byte each; 255: none)
//
// Slots are numbered: inputs, outputs, temporaries, constants. A step may read what earlier steps wrote.
// `graphopt/lowering/elementwise_program.py` writes them; opcodes stand there in the same order.
#pragma once
#include "engine/abi.h"

namespace graphopt::elementwise {

// Name, sources, weight: about how many times the work of an addition.
#define GRAPHOPT_ELEMENTWISE_OPS(X)                                                                                  \
  X(Copy, 1, 1) X(Neg, 1, 1) X(Abs, 1, 1) X(Sign, 1, 1) X(Sqrt, 1, 4) X(Reciprocal, 1, 4) X(Exp, 1, 8) X(Log, 1, 8)  \
  X(Erf, 1, 12) X(Sin, 1, 16) X(Cos, 1, 16) X(Tan, 1, 24) X(Asin, 1, 64) X(Acos, 1, 64) X(Atan, 1, 64)               \
  X(Sinh, 1, 64) X(Cosh, 1, 64) X(Tanh, 1, 8) X(Asinh, 1, 64) X(Acosh, 1, 64) X(Atanh, 1, 64) X(Floor, 1, 1)         \
  X(Ceil, 1, 1) X(Round, 1, 1) X(Relu, 1, 1) X(LeakyRelu, 1, 1) X(Elu, 1, 8) X(Selu, 1, 8) X(Celu, 1, 8)             \
  X(ThresholdedRelu, 1, 1) X(HardSigmoid, 1, 1) X(HardSwish, 1, 1) X(Sigmoid, 1, 8) X(Softplus, 1, 12)               \
  X(Softsign, 1, 4) X(Gelu, 1, 8) X(GeluTanh, 1, 10) X(Swish, 1, 8) X(Mish, 1, 10) X(Shrink, 1, 1) X(Not, 1, 1)      \
  X(BitNot, 1, 1) X(IsNaN, 1, 1) X(IsInf, 1, 1) X(Cast, 1, 2)                                                        \
  X(Add, 2, 1) X(Sub, 2, 1) X(Mul, 2, 1) X(Div, 2, 4) X(Mod, 2, 16) X(Fmod, 2, 16) X(Pow, 2, 24) X(Min, 2, 1)        \
  X(Max, 2, 1) X(PRelu, 2, 1) X(BitAnd, 2, 1) X(BitOr, 2, 1) X(BitXor, 2, 1) X(ShiftLeft, 2, 1) X(ShiftRight, 2, 1)  \
  X(Equal, 2, 1) X(Less, 2, 1) X(LessEqual, 2, 1)                                                                    \
  X(Where, 3, 1) X(Clip, 3, 1) X(Quantize, 3, 6) X(Dequantize, 3, 4)

enum class Op : uint8_t {
#define GRAPHOPT_OP(name, sources, weight) k##name,
  GRAPHOPT_ELEMENTWISE_OPS(GRAPHOPT_OP)
#undef GRAPHOPT_OP
      kCount
};
constexpr int kOps = static_cast<int>(Op::kCount);

struct Step;

// out[i] = op(a[i], b[i], c[i]) for i < n. `out` may be exactly one of the sources.
using Function = void (*)(char* out, const char* a, const char* b, const char* c, int64_t n, const Step& step);

struct Step {
  Function f;
  uint8_t slots[3];  // of the sources; unused ones repeat the first
  uint8_t out;
  Op op;
  uint8_t sources;
  DType type, to;        // of the sources, of the result
  const double* floats;  // immediates
  Function inner;        // for 16-bit floats: the float32 function of which f is the shell
};

// The functions for an operation; null: there is none for the type. Bit k of `scalars`: source k is one element, not n.
Function float_function(Op op, int scalars);
Function wide_function(Op op, int scalars);  // float32 operations that are computed in double
Function double_function(Op op);
Function integer_function(Op op, DType type);
Function narrow_function(Op op, DType type);  // 16-bit floats; sets nothing: `inner` is float_function(op, 0)
Function select_function(Op op, int64_t size);  // Copy, Where: by the bytes of an element
Function cast_function(DType from, DType to);
// `is_uniform`: scale and zero point are one element, not n.
Function quantize_function(Op op, DType real, DType quantized, bool is_uniform);

// Fills in f and inner; false: there is no function.
bool find_function(Step& step, int scalars);

const char* name_of(Op op);
const char* name_of(DType type);
int sources_of(Op op);
int weight_of(Op op);

}  // namespace graphopt::elementwise
