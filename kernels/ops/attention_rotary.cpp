// RotaryEmbedding: pairs of elements of a head are turned by an angle of their position.
//
// in: x [B, H, T, d] (any strides), cos, sin [B, T, r / 2] or, with positions, [positions, r / 2]; positions? [B, T], or
//     one number that position 0 has   out: y like x (any strides)
// ints: 1 where a pair are neighbours (else halves of the rotated part), r (0: d)
#include "ops/norm_rows.h"

namespace graphopt {
namespace {

struct Params {
  int64_t batch, heads, length, size, half;
  int64_t x[4], y[4];
  int64_t table[3];      // strides of cos and sin; 0 where there is no such dim
  int64_t sine[3];
  int64_t rows;          // of the tables
  int64_t positions[2];  // strides
  int32_t form;          // 0: no positions, 1: one each, 2: the first
  DType position_type;
  bool interleaved, contiguous;
};

int64_t position_of(const Params& p, const Instr& instr, Worker& w, int64_t batch, int64_t t) {
  const Tensor& at = *instr.in[3];
  const int64_t i = p.form == 2 ? 0 : batch * p.positions[0] + t * p.positions[1];
  int64_t position = p.position_type == DType::kInt32 ? at.as<int32_t>()[i] : at.as<int64_t>()[i];
  if (p.form == 2) position += t;
  if (position < 0) position += p.rows;
  if (position < 0 || position >= p.rows)
    w.host->fail("rotary_embedding: position %lld in tables of %lld", static_cast<long long>(position),
                 static_cast<long long>(p.rows));
  return position;
}

double wide(double x) { return x; }
template <class T>
float wide(T x) { return to_float(x); }
void put(double x, double& y) { y = x; }
template <class T>
void put(float x, T& y) { from_float(x, y); }

// Halves, contiguous: by vectors.
template <class T>
void rotate_halves(const T* x, T* y, const T* cosine, const T* sine, int64_t half) {
  int64_t i = 0;
  const auto turn = [&](int64_t at, int n) {
    const auto get = [n](const T* p) { return n == kLanes ? load(p) : load_first(p, n); };
    const vf a = get(x + at), b = get(x + half + at), c = get(cosine + at), s = get(sine + at);
    const vf real = c * a - s * b, imaginary = s * a + c * b;
    if (n == kLanes) store(y + at, real), store(y + half + at, imaginary);
    else store_first(y + at, real, n), store_first(y + half + at, imaginary, n);
  };
  for (; i + kLanes <= half; i += kLanes) turn(i, kLanes);
  if (i < half) turn(i, static_cast<int>(half - i));
}

template <class T>
void rotate(const Params& p, const T* x, T* y, const T* cosine, const T* sine) {
  if constexpr (!std::is_same_v<T, double>)
    if (p.contiguous && !p.interleaved) {
      rotate_halves(x, y, cosine, sine, p.half);
      for (int64_t i = 2 * p.half; i < p.size; ++i) y[i] = x[i];
      return;
    }
  for (int64_t i = 0; i < p.half; ++i) {
    const int64_t first = p.interleaved ? 2 * i : i, second = p.interleaved ? 2 * i + 1 : i + p.half;
    const auto a = wide(x[first * p.x[3]]), b = wide(x[second * p.x[3]]);
    const auto c = wide(cosine[i * p.table[2]]), s = wide(sine[i * p.sine[2]]);
    put(c * a - s * b, y[first * p.y[3]]);
    put(s * a + c * b, y[second * p.y[3]]);
  }
  for (int64_t i = 2 * p.half; i < p.size; ++i) y[i * p.y[3]] = x[i * p.x[3]];
}

template <class T>
void run(const Instr& instr, Worker& w) {
  const Params& p = instr.as<Params>();
  w.parallel(p.batch * p.length, 1 + kGrainElements / (p.heads * p.size + 1), [&](int64_t begin, int64_t end, Worker& v) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t batch = i / p.length, t = i % p.length;
      const int64_t row = p.form ? position_of(p, instr, v, batch, t) : t;
      const T* cosine = instr.in[1]->as<T>() + batch * p.table[0] + row * p.table[1];
      const T* sine = instr.in[2]->as<T>() + batch * p.sine[0] + row * p.sine[1];
      for (int64_t h = 0; h < p.heads; ++h)
        rotate(p, instr.in[0]->as<T>() + batch * p.x[0] + h * p.x[1] + t * p.x[2],
               instr.out[0]->as<T>() + batch * p.y[0] + h * p.y[1] + t * p.y[2], cosine, sine);
    }
  });
}

// Strides of [B, T, r / 2], or of [rows, r / 2].
void take_table(Bind& b, const Params& p, int input, int64_t (&strides)[3]) {
  const Tensor& t = *b.in[input];
  const int rank = p.form ? 2 : 3;
  const bool fits = t.rank == rank && t.dims[rank - 1] == p.half && t.dtype == b.in[0]->dtype &&
                    (p.form ? t.dims[0] == p.rows
                            : (t.dims[0] == p.batch || t.dims[0] == 1) && (t.dims[1] == p.length || t.dims[1] == 1));
  if (!fits)
    b.host->fail("rotary_embedding: input %d of rank %d and last dim %lld, wanted rank %d and %lld", input, t.rank,
                 static_cast<long long>(t.rank ? t.dims[t.rank - 1] : 0), rank, static_cast<long long>(p.half));
  for (int i = 0; i < rank; ++i) strides[3 - rank + i] = t.dims[i] == 1 && i < rank - 1 ? 0 : t.strides[i];
}

Run prepare(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  if (x.rank != 4 || !same_dims(x, y) || x.dtype != y.dtype) b.host->fail("rotary_embedding: the result is not like the input");
  Params& p = b.make<Params>();
  p.batch = x.dims[0], p.heads = x.dims[1], p.length = x.dims[2], p.size = x.dims[3];
  const int64_t rotated = b.ints[1] ? b.ints[1] : p.size;
  if (rotated < 0 || rotated > p.size || rotated % 2 != 0)
    b.host->fail("rotary_embedding: %lld of %lld elements", static_cast<long long>(rotated), static_cast<long long>(p.size));
  p.half = rotated / 2;
  p.interleaved = b.ints[0] != 0;
  for (int i = 0; i < 4; ++i) p.x[i] = x.strides[i], p.y[i] = y.strides[i];
  if (b.has(3)) {
    const Tensor& at = *b.in[3];
    const bool each = at.rank == 2 && at.dims[0] == p.batch && at.dims[1] == p.length;
    if ((!each && at.count() != 1) || (at.dtype != DType::kInt64 && at.dtype != DType::kInt32))
      b.host->fail("rotary_embedding: positions of rank %d", at.rank);
    p.form = each ? 1 : 2;
    p.position_type = at.dtype;
    if (each) p.positions[0] = at.strides[0], p.positions[1] = at.strides[1];
    p.rows = b.in[1]->rank ? b.in[1]->dims[0] : 0;
  }
  take_table(b, p, 1, p.table);
  take_table(b, p, 2, p.sine);
  p.contiguous = p.x[3] == 1 && p.y[3] == 1 && p.table[2] == 1 && p.sine[2] == 1;
  return for_float(b, "rotary_embedding", x.dtype, []<class T>() -> Run { return run<T>; });
}

const RegisterKernel rotary{"rotary_embedding", prepare, shape_like_input};

}  // namespace
}  // namespace graphopt
