// Softmax, LogSoftmax, Hardmax and LpNormalization along one axis.
//
// Rows: a row is read three times, the last two from L1; about 10 cycles a vector of exponentials on AVX-512. Where the
// elements of a row are apart and those of neighbouring rows together (an axis of channels), a vector holds as many rows.
//
// softmax, log_softmax, hardmax   in: x   out: y   ints: axis, 1 where a row is all dims from there on
// lp_normalize                    in: x   out: y   ints: axis, 0, p (1 or 2); a row of zeros stays
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/norm_rows.h"
#include "simd/math.h"

namespace graphopt {
namespace {

enum class Form { kSoftmax, kLog, kHard, kL1, kL2 };
// Sums are made in blocks: the error grows with their number and size, not with the length.
constexpr int64_t kBlock = 32;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

struct Params {
  RowPlan rows;
  Loop<2> outer;      // around the columns
  int64_t width = 0;  // columns: neighbouring rows that vectors go across
  int64_t x_step = 0, y_step = 0;
};

// Exponentials are kept in y: in float16 they are rounded to it, and so is their sum, as the standard's body has it (Exp,
// ReduceSum, Div); bfloat16 has too few digits for that.
template <bool kLog, class T>
constexpr bool kKeep = !kLog && !std::is_same_v<T, bf16>;

template <bool kLog, class T>
float rounded(float sum) {
  if constexpr (kLog || !std::is_same_v<T, f16>) return sum;
  constexpr float kLargest = 65504;
  f16 half;
  from_float(sum, half);
  return sum <= kLargest ? to_float(half) : sum;
}

// Where x has a NaN it reaches the sum, if not the maximum, and from there the whole row.
template <bool kLog, class T>
void softmax_row(const T* x, T* y, int64_t n) {
  const int rest = static_cast<int>(n % kLanes);
  const int64_t whole = n - rest;
  const vf lowest = broadcast(kLowest);
  vf top[4] = {lowest, lowest, lowest, lowest};
  int64_t at = 0;
  for (; at + 4 * kLanes <= whole; at += 4 * kLanes)
    for (int k = 0; k < 4; ++k) top[k] = max(top[k], load(x + at + k * kLanes));
  for (; at < whole; at += kLanes) top[0] = max(top[0], load(x + at));
  if (rest) top[1] = max(top[1], first_lanes(load_first(x + whole, rest), rest, lowest));
  const vf m = broadcast(max_of(max(max(top[0], top[1]), max(top[2], top[3]))));
  constexpr bool keeps = kKeep<kLog, T>;
  vf sum{};
  for (int64_t block = 0; block < whole; block += kBlock * kLanes) {
    vf part{};
    for (int64_t i = block; i < std::min(block + kBlock * kLanes, whole); i += kLanes) {
      vf e = exp_nonpositive(load(x + i) - m);
      if constexpr (keeps) {
        store(y + i, e);
        if constexpr (std::is_same_v<T, f16>) e = load(y + i);
      }
      part += e;
    }
    sum += part;
  }
  if (rest) {
    vf e = exp_nonpositive(load_first(x + whole, rest) - m);
    if constexpr (keeps) {
      store_first(y + whole, e, rest);
      if constexpr (std::is_same_v<T, f16>) e = load_first(y + whole, rest);
    }
    sum += first_lanes(e, rest, vf{});
  }
  const float total = rounded<kLog, T>(sum_of(sum));
  const vf scale = broadcast(kLog ? std::log(total) : 1.0f / total);
  const auto finish = [&](vf v) {
    if constexpr (kLog) return v - m - scale;
    return keeps ? v * scale : exp_nonpositive(v - m) * scale;
  };
  const T* from = keeps ? y : x;
  for (int64_t i = 0; i < whole; i += kLanes) store(y + i, finish(load(from + i)));
  if (rest) store_first(y + whole, finish(load_first(from + whole, rest)), rest);
}

template <bool kLog>
void softmax_row(const double* x, double* y, int64_t n) {
  double m = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t i = 0; i < n; ++i) m = x[i] > m ? x[i] : m;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - m);
  for (int64_t i = 0; i < n; ++i) y[i] = kLog ? x[i] - m - std::log(sum) : std::exp(x[i] - m) / sum;
}

GRAPHOPT_INLINE double wide(double x) { return x; }
template <class T>
GRAPHOPT_INLINE float wide(T x) { return to_float(x); }
GRAPHOPT_INLINE void put(double x, double& y) { y = x; }
template <class T>
GRAPHOPT_INLINE void put(float x, T& y) { from_float(x, y); }

// 1 where the first of the largest elements is.
template <class T>
void hardmax_row(const T* x, T* y, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i)
    if (wide(x[i]) > wide(x[best])) best = i;
  for (int64_t i = 0; i < n; ++i) put(decltype(wide(*x))(i == best), y[i]);
}

template <bool kSquares, class T>
void lp_row(const T* x, T* y, int64_t n) {
  decltype(wide(*x)) s[8] = {}, norm = 0;
  for (int64_t i = 0; i < n; ++i) s[i % 8] += kSquares ? wide(x[i]) * wide(x[i]) : std::abs(wide(x[i]));
  for (const auto part : s) norm += part;
  if (kSquares) norm = std::sqrt(norm);
  for (int64_t i = 0; i < n; ++i) put(norm == 0 ? wide(x[i]) : wide(x[i]) / norm, y[i]);
}

template <Form form, class T>
void run_rows(const Instr& instr, Worker& w) {
  const Params& p = instr.as<Params>();
  const int64_t n = p.rows.length;
  over_rows<T>(p.rows, *instr.in[0], *instr.out[0], w, [n](const T* x, T* y, int64_t) {
    if constexpr (form == Form::kHard) hardmax_row(x, y, n);
    else if constexpr (form == Form::kL1 || form == Form::kL2) lp_row<form == Form::kL2>(x, y, n);
    else softmax_row<form == Form::kLog>(x, y, n);
  });
}

// `lanes` neighbouring rows at once.
template <bool kLog, class T>
void softmax_columns(const T* x, T* y, int64_t n, int64_t x_step, int64_t y_step, int lanes) {
  const bool whole = lanes == kLanes;
  const auto get = [&](const T* p) { return whole ? load(p) : load_first(p, lanes); };
  const auto set = [&](T* p, vf v) { whole ? store(p, v) : store_first(p, v, lanes); };
  constexpr bool keeps = kKeep<kLog, T>;
  vf m = broadcast(kLowest), sum{};
  for (int64_t i = 0; i < n; ++i) m = max(m, get(x + i * x_step));
  for (int64_t block = 0; block < n; block += kBlock) {
    vf part{};
    for (int64_t i = block; i < std::min(block + kBlock, n); ++i) {
      vf e = exp_nonpositive(get(x + i * x_step) - m);
      if constexpr (keeps) {
        set(y + i * y_step, e);
        if constexpr (std::is_same_v<T, f16>) e = get(y + i * y_step);
      }
      part += e;
    }
    sum += part;
  }
  if constexpr (std::is_same_v<T, f16>)
    for (int k = 0; k < kLanes; ++k) sum[k] = rounded<kLog, T>(sum[k]);
  vf scale = 1.0f / sum;
  if constexpr (kLog)
    for (int k = 0; k < kLanes; ++k) scale[k] = std::log(sum[k]);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (keeps) {
      set(y + i * y_step, get(y + i * y_step) * scale);
    } else {
      const vf v = get(x + i * x_step) - m;
      set(y + i * y_step, kLog ? v - scale : exp(v) * scale);
    }
  }
}

template <bool kLog, class T>
void run_columns(const Instr& instr, Worker& w) {
  const Params& p = instr.as<Params>();
  const T* x = instr.in[0]->as<T>();
  T* y = instr.out[0]->as<T>();
  const int64_t n = p.rows.length, blocks = (p.width + kLanes - 1) / kLanes;
  w.parallel(p.outer.count * blocks, 1 + kGrainElements / (n * kLanes + 1), [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t at[2];
      p.outer.locate(i / blocks, at);
      const int64_t first = i % blocks * kLanes, left = p.width - first;
      softmax_columns<kLog>(x + at[0] + first, y + at[1] + first, n, p.x_step, p.y_step,
                            static_cast<int>(left < kLanes ? left : kLanes));
    }
  });
}

template <Form form>
Run prepare(Bind& b, const char* name) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  if (!same_dims(x, y) || x.dtype != y.dtype) b.host->fail("%s: the result is not like the input", name);
  Params& p = b.make<Params>();
  // A scalar is a row of one element.
  const int axis = x.rank == 0 ? 0 : axis_of(b, name, b.ints[0], x.rank);
  const int end = b.ints[1] ? x.rank : std::min(axis + 1, x.rank);
  p.rows = plan_rows(b, x, y, axis, end);
  constexpr bool kColumns = form == Form::kSoftmax || form == Form::kLog;
  int last = x.rank - 1;
  while (last > axis && x.dims[last] == 1) --last;
  if (kColumns && x.dtype != DType::kDouble && !p.rows.x_contiguous && end == axis + 1 && last > axis && x.dims[last] >= 4 &&
      x.strides[last] == 1 && y.strides[last] == 1) {
    int first = last;  // dims that one step walks through: they merge with the last one
    while (first - 1 > axis && x.strides[first - 1] == x.strides[first] * x.dims[first] &&
           y.strides[first - 1] == y.strides[first] * y.dims[first])
      --first;
    p.width = x.product(first, last + 1);
    p.x_step = x.strides[axis];
    p.y_step = y.strides[axis];
    for (int i = 0; i < x.rank; ++i)
      if (i != axis && (i < first || i > last)) p.outer.add(x.dims[i], {x.strides[i], y.strides[i]});
    return for_float(b, name, x.dtype, []<class T>() -> Run {
      if constexpr (!std::is_same_v<T, double>) return run_columns<form == Form::kLog, T>;
      return nullptr;
    });
  }
  return for_float(b, name, x.dtype, []<class T>() -> Run { return run_rows<form, T>; });
}

Run prepare_lp(Bind& b) {
  if (b.ints[2] != 1 && b.ints[2] != 2) b.host->fail("lp_normalize: norm %lld", static_cast<long long>(b.ints[2]));
  return b.ints[2] == 1 ? prepare<Form::kL1>(b, "lp_normalize") : prepare<Form::kL2>(b, "lp_normalize");
}

const RegisterKernel softmax{"softmax", [](Bind& b) { return prepare<Form::kSoftmax>(b, "softmax"); }, shape_like_input};
const RegisterKernel log_softmax{"log_softmax", [](Bind& b) { return prepare<Form::kLog>(b, "log_softmax"); }, shape_like_input};
const RegisterKernel hardmax{"hardmax", [](Bind& b) { return prepare<Form::kHard>(b, "hardmax"); }, shape_like_input};
const RegisterKernel lp_normalize{"lp_normalize", prepare_lp, shape_like_input};

}  // namespace
}  // namespace graphopt
