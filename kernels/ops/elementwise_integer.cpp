// Steps on integers and bool: plain loops that the compiler vectorizes. Arithmetic wraps; nothing traps.
#include <limits>
#include <type_traits>

#include "ops/elementwise_scalar.h"

namespace graphopt::elementwise {
namespace {

// Wrapping arithmetic of T, in its unsigned twin; types under 32 bits are promoted, which is harmless.
template <class T> using Unsigned = std::make_unsigned_t<T>;

#define GRAPHOPT_UNARY(Name, expression)              \
  template <class T> struct Name {                    \
    explicit Name(const Step&) {}                     \
    T operator()(T x) const { return static_cast<T>(expression); } \
  };
#define GRAPHOPT_BINARY(Name, expression)             \
  template <class T> struct Name {                    \
    typedef Unsigned<T> U;                            \
    T operator()(T a, T b) const { return static_cast<T>(expression); } \
  };

GRAPHOPT_UNARY(Neg, Unsigned<T>(0) - static_cast<Unsigned<T>>(x))
GRAPHOPT_UNARY(Abs, x < 0 ? Unsigned<T>(0) - static_cast<Unsigned<T>>(x) : static_cast<Unsigned<T>>(x))
GRAPHOPT_UNARY(Sign, (x > 0) - (x < 0))
GRAPHOPT_UNARY(Relu, x > 0 ? x : 0)
GRAPHOPT_UNARY(Not, x == 0)
GRAPHOPT_UNARY(BitNot, ~x)
GRAPHOPT_BINARY(Add, static_cast<U>(a) + static_cast<U>(b))
GRAPHOPT_BINARY(Sub, static_cast<U>(a) - static_cast<U>(b))
// 16-bit factors would be promoted to int and could overflow it.
GRAPHOPT_BINARY(Mul, static_cast<uint64_t>(a) * static_cast<uint64_t>(b))
GRAPHOPT_BINARY(Min, a < b ? a : b)
GRAPHOPT_BINARY(Max, a > b ? a : b)
GRAPHOPT_BINARY(BitAnd, a & b)
GRAPHOPT_BINARY(BitOr, a | b)
GRAPHOPT_BINARY(BitXor, a ^ b)
GRAPHOPT_BINARY(PRelu, a < 0 ? static_cast<uint64_t>(a) * static_cast<uint64_t>(b) : static_cast<uint64_t>(a))
// Shifts by the width or more (or by less than nothing) leave zero, or to the right the sign.
GRAPHOPT_BINARY(ShiftLeft, static_cast<U>(b) < sizeof(T) * 8 ? static_cast<uint64_t>(a) << (b & 63) : 0)
GRAPHOPT_BINARY(ShiftRight, static_cast<U>(b) < sizeof(T) * 8 ? a >> (b & (sizeof(T) * 8 - 1)) : a < 0 ? -1 : 0)

// Division by zero gives zero, the least number by -1 itself.
template <class T> bool is_minus_one(T x) { return std::is_signed_v<T> && x == static_cast<T>(-1); }
template <class T> struct Div {
  T operator()(T a, T b) const {
    if (b == 0) return 0;
    return is_minus_one(b) ? static_cast<T>(Unsigned<T>(0) - static_cast<Unsigned<T>>(a)) : static_cast<T>(a / b);
  }
};
template <class T> struct Fmod {
  T operator()(T a, T b) const { return b == 0 || is_minus_one(b) ? T(0) : static_cast<T>(a % b); }
};
template <class T> struct Mod {
  T operator()(T a, T b) const {
    T r = Fmod<T>{}(a, b);
    return r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
  }
};
template <class T> struct Pow {
  T operator()(T a, T b) const {
    if constexpr (std::is_signed_v<T>) {
      if (b < 0) return a == 1 ? T(1) : a == static_cast<T>(-1) ? (b & 1 ? T(-1) : T(1)) : T(0);
    }
    uint64_t result = 1, power = static_cast<uint64_t>(a);
    for (Unsigned<T> e = static_cast<Unsigned<T>>(b); e != 0; e = static_cast<Unsigned<T>>(e >> 1)) {
      if (e & 1) result *= power;
      power *= power;
    }
    return static_cast<T>(result);
  }
};

template <class T> void leaky_relu(char* out, const char* a, const char*, const char*, int64_t n, const Step& s) {
  const double alpha = s.floats[0];
  T* y = reinterpret_cast<T*>(out);
  const T* x = reinterpret_cast<const T*>(a);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] < 0 ? static_cast<T>(static_cast<double>(x[i]) * alpha) : x[i];
}

// What wraps and what only looks at bits: the same for signed and unsigned.
template <class U> Function wrapping(Op op) {
  switch (op) {
#define GRAPHOPT_CASE(Name) \
  case Op::k##Name: return binary_loop<U, Name<U>>;
    GRAPHOPT_CASE(Add) GRAPHOPT_CASE(Sub) GRAPHOPT_CASE(Mul) GRAPHOPT_CASE(BitAnd) GRAPHOPT_CASE(BitOr)
    GRAPHOPT_CASE(BitXor) GRAPHOPT_CASE(ShiftLeft)
#undef GRAPHOPT_CASE
    case Op::kNeg: return unary_loop<U, Neg<U>>;
    case Op::kBitNot: return unary_loop<U, BitNot<U>>;
    case Op::kEqual: return compare_loop<U, IsEqual>;
    default: return nullptr;
  }
}

template <class T> Function function_of(Op op) {
  if (Function found = wrapping<Unsigned<T>>(op)) return found;
  switch (op) {
#define GRAPHOPT_CASE(Name) \
  case Op::k##Name: return unary_loop<T, Name<T>>;
    GRAPHOPT_CASE(Abs) GRAPHOPT_CASE(Sign) GRAPHOPT_CASE(Relu)
#undef GRAPHOPT_CASE
#define GRAPHOPT_CASE(Name) \
  case Op::k##Name: return binary_loop<T, Name<T>>;
    GRAPHOPT_CASE(Div) GRAPHOPT_CASE(Mod) GRAPHOPT_CASE(Fmod) GRAPHOPT_CASE(Pow) GRAPHOPT_CASE(Min) GRAPHOPT_CASE(Max)
    GRAPHOPT_CASE(PRelu) GRAPHOPT_CASE(ShiftRight)
#undef GRAPHOPT_CASE
    case Op::kLess: return compare_loop<T, IsLess>;
    case Op::kLessEqual: return compare_loop<T, IsAtMost>;
    case Op::kClip: return clip_loop<T>;
    case Op::kLeakyRelu: return leaky_relu<T>;
    default: return nullptr;
  }
}

Function bool_function(Op op) {
  switch (op) {
    case Op::kNot: return unary_loop<uint8_t, Not<uint8_t>>;
    case Op::kBitAnd: case Op::kBitOr: case Op::kBitXor: case Op::kEqual: return wrapping<uint8_t>(op);
    case Op::kMin: case Op::kMax: case Op::kLess: case Op::kLessEqual: return function_of<uint8_t>(op);
    default: return nullptr;
  }
}

template <class T> void copy_loop(char* out, const char* a, const char*, const char*, int64_t n, const Step&) {
  if (out != a) __builtin_memcpy(out, a, sizeof(T) * static_cast<size_t>(n));
}
template <class T> void where_loop(char* out, const char* a, const char* b, const char* c, int64_t n, const Step&) {
  T* y = reinterpret_cast<T*>(out);
  const uint8_t* mask = reinterpret_cast<const uint8_t*>(a);
  const T *yes = reinterpret_cast<const T*>(b), *no = reinterpret_cast<const T*>(c);
  for (int64_t i = 0; i < n; ++i) {
    const T p = yes[i], q = no[i];  // read both: the compiler then blends instead of branching
    y[i] = mask[i] ? p : q;
  }
}
struct Wide {
  uint64_t halves[2];
};

}  // namespace

Function integer_function(Op op, DType type) {
  switch (type) {
    case DType::kBool: return bool_function(op);
    case DType::kUint8: return function_of<uint8_t>(op);
    case DType::kInt8: return function_of<int8_t>(op);
    case DType::kUint16: return function_of<uint16_t>(op);
    case DType::kInt16: return function_of<int16_t>(op);
    case DType::kUint32: return function_of<uint32_t>(op);
    case DType::kInt32: return function_of<int32_t>(op);
    case DType::kUint64: return function_of<uint64_t>(op);
    case DType::kInt64: return function_of<int64_t>(op);
    default: return nullptr;
  }
}

Function select_function(Op op, int64_t size) {
  const bool copies = op == Op::kCopy;
  if (!copies && op != Op::kWhere) return nullptr;
  switch (size) {
    case 1: return copies ? copy_loop<uint8_t> : where_loop<uint8_t>;
    case 2: return copies ? copy_loop<uint16_t> : where_loop<uint16_t>;
    case 4: return copies ? copy_loop<uint32_t> : where_loop<uint32_t>;
    case 8: return copies ? copy_loop<uint64_t> : where_loop<uint64_t>;
    case 16: return copies ? copy_loop<Wide> : where_loop<Wide>;
    default: return nullptr;
  }
}

}  // namespace graphopt::elementwise
