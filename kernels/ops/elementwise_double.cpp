// Steps on double.
#include "ops/elementwise_scalar.h"

namespace graphopt::elementwise {

Function double_function(Op op) {
  switch (op) {
#define GRAPHOPT_CASE(Name) \
  case Op::k##Name: return unary_loop<double, scalar::Name<double>>;
    GRAPHOPT_CASE(Neg) GRAPHOPT_CASE(Abs) GRAPHOPT_CASE(Sign) GRAPHOPT_CASE(Sqrt) GRAPHOPT_CASE(Reciprocal)
    GRAPHOPT_CASE(Exp) GRAPHOPT_CASE(Log) GRAPHOPT_CASE(Erf) GRAPHOPT_CASE(Sin) GRAPHOPT_CASE(Cos) GRAPHOPT_CASE(Tan)
    GRAPHOPT_CASE(Asin) GRAPHOPT_CASE(Acos) GRAPHOPT_CASE(Atan) GRAPHOPT_CASE(Sinh) GRAPHOPT_CASE(Cosh)
    GRAPHOPT_CASE(Tanh) GRAPHOPT_CASE(Asinh) GRAPHOPT_CASE(Acosh) GRAPHOPT_CASE(Atanh) GRAPHOPT_CASE(Floor)
    GRAPHOPT_CASE(Ceil) GRAPHOPT_CASE(Round) GRAPHOPT_CASE(Relu) GRAPHOPT_CASE(LeakyRelu) GRAPHOPT_CASE(Elu)
    GRAPHOPT_CASE(Selu) GRAPHOPT_CASE(Celu) GRAPHOPT_CASE(ThresholdedRelu) GRAPHOPT_CASE(HardSigmoid)
    GRAPHOPT_CASE(HardSwish) GRAPHOPT_CASE(Sigmoid) GRAPHOPT_CASE(Softplus) GRAPHOPT_CASE(Softsign)
    GRAPHOPT_CASE(Gelu) GRAPHOPT_CASE(GeluTanh) GRAPHOPT_CASE(Swish) GRAPHOPT_CASE(Mish) GRAPHOPT_CASE(Shrink)
#undef GRAPHOPT_CASE
#define GRAPHOPT_CASE(Name) \
  case Op::k##Name: return binary_loop<double, scalar::Name<double>>;
    GRAPHOPT_CASE(Add) GRAPHOPT_CASE(Sub) GRAPHOPT_CASE(Mul) GRAPHOPT_CASE(Div) GRAPHOPT_CASE(Mod) GRAPHOPT_CASE(Fmod)
    GRAPHOPT_CASE(Pow) GRAPHOPT_CASE(Min) GRAPHOPT_CASE(Max) GRAPHOPT_CASE(PRelu)
#undef GRAPHOPT_CASE
    case Op::kEqual: return compare_loop<double, IsEqual>;
    case Op::kLess: return compare_loop<double, IsLess>;
    case Op::kLessEqual: return compare_loop<double, IsAtMost>;
    case Op::kIsNaN: return is_nan_loop<double>;
    case Op::kIsInf: return is_inf_loop<double>;
    case Op::kClip: return clip_loop<double>;
    default: return nullptr;
  }
}

}  // namespace graphopt::elementwise
