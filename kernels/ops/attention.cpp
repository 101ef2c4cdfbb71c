// Attention: softmax(scale * Q K' + mask) V for every head, in one pass over the keys.
//
// Queries are the lanes. For up to two vectors of queries: Q is transposed once, [size][lanes]; for each block of keys
// the transposed scores [keys][lanes] are products of rows of K, read in place whatever their stride, with it (tiles of
// 12 keys); maximum, exponential and sum then go down the block without a horizontal step; and O [queries][value size]
// += P' V are tiles of 12 queries by two vectors of V, read in place. A running maximum joins the blocks.
// 36, 73 and 88 of 115 GF at 10, 30 and 100 queries of 4 heads of 64; 95 GF of whole blocks over 1024 keys.
// Up to kStepQueries queries go another way: attention_step.h.
//
// in: Q [B, H, T, d], K [B, G, S, d], V [B, G, S, e], mask? (broadcast to [B, H, T, S]; its last dim may be short),
//     lengths? [B] (int32, int64: keys that count)
// out: Y [B, H, T, e], scores? [B, H, T, S]
// ints: left, right (window; -1: none), offset (of the queries' positions), mode (of the scores)   floats: scale
// (NaN: 1 / sqrt(d)), softcap (0: none)
#include "ops/attention.h"

#include "ops/attention_step.h"
#include "ops/attention_tiles.h"

namespace graphopt {
namespace {

constexpr int64_t kLanes2 = 2 * kLanes;  // queries of a block, and the row length of its matrices
constexpr int64_t kKeys = 256;           // keys of a block
constexpr int64_t kStepQueries = 3;

int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// What a thread computes a block of queries in.
struct Scratch {
  float *q, *scores, *result, *k, *v;

  static Scratch of(const Attention& p, char* memory) {
    Scratch s;
    s.q = reinterpret_cast<float*>(memory);
    s.scores = s.q + padded(p.size, kLanes) * kLanes2;
    s.result = s.scores + padded(p.block, kLanes) * kLanes2;
    s.k = s.result + kLanes2 * p.value_step;
    s.v = s.k + p.block * p.size;
    return s;
  }
  static int64_t bytes(const Attention& p, bool widens) {
    const Scratch s = of(p, nullptr);
    return reinterpret_cast<char*>(widens ? s.v + p.block * padded(p.value_size, kLanes) : s.k) - static_cast<char*>(nullptr);
  }
};

template <class E>
GRAPHOPT_INLINE vf load_some(const E* p, int64_t n) {
  return n >= kLanes ? load(p) : load_first(p, static_cast<int>(n));
}

// to[c][lane] = from[lane][c] * scale; lanes beyond the queries are 0.
template <class E>
void transpose_queries(const E* from, int64_t step, int64_t queries, int64_t size, int vectors, float scale, float* to) {
  for (int64_t lane = 0; lane < vectors * kLanes; lane += kLanes)
    for (int64_t c = 0; c < size; c += kLanes) {
      vf rows[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        rows[i] = lane + i < queries ? load_some(from + (lane + i) * step + c, size - c) * scale : vf{};
      transpose(rows);
      for (int64_t i = 0; i < kLanes; ++i) store(to + (c + i) * kLanes2 + lane, rows[i]);
    }
}

// Rows of 16-bit floats as floats.
template <class E>
void widen_rows(const E* from, int64_t step, int64_t rows, int64_t size, float* to, int64_t to_step) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < size; c += kLanes) {
      const vf v = load_some(from + i * step + c, size - c);
      if (size - c >= kLanes) store(to + i * to_step + c, v);
      else store_first(to + i * to_step + c, v, static_cast<int>(size - c));
    }
}

// scores[key][lane] += mask[lane][key]
template <class M>
void add_mask(const Attention& p, const char* at, float* scores, int64_t keys, int64_t queries, int vectors) {
  const M* mask = reinterpret_cast<const M*>(at);
  for (int64_t j = 0; j < keys; j += kLanes) {
    const int n = static_cast<int>(std::min<int64_t>(kLanes, keys - j));
    if (p.mask[2] == 0) {
      const vf row = load_mask(mask + j, n);
      for (int i = 0; i < n; ++i)
        for (int v = 0; v < vectors; ++v) {
          float* s = scores + (j + i) * kLanes2 + v * kLanes;
          store(s, load(s) + row[i]);
        }
      continue;
    }
    for (int64_t lane = 0; lane < vectors * kLanes; lane += kLanes) {
      vf rows[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        rows[i] = lane + i < queries ? load_mask(mask + (lane + i) * p.mask[2] + j, n) : vf{};
      transpose(rows);
      for (int i = 0; i < n; ++i) {
        float* s = scores + (j + i) * kLanes2 + lane;
        store(s, load(s) + rows[i]);
      }
    }
  }
}

// Keys first .. first + keys that a lane doesn't see get minus infinity.
void hide(const Attention& p, const Seen& seen, int64_t query, int64_t queries, int64_t first, int64_t keys, float* scores,
          int vectors) {
  const int64_t last = query + queries - 1;
  const int64_t all_from = seen.begin(p, last), all_to = seen.end(p, query);  // seen by every query
  if (all_from <= first && all_to >= first + keys) return;
  vi from[2], to[2];
  for (int v = 0; v < vectors; ++v)
    for (int i = 0; i < kLanes; ++i) {
      const int64_t q = std::min(query + v * kLanes + i, last);
      from[v][i] = static_cast<int32_t>(std::clamp<int64_t>(seen.begin(p, q) - first, 0, keys));
      to[v][i] = static_cast<int32_t>(std::clamp<int64_t>(seen.end(p, q) - first, 0, keys));
    }
  for (int64_t j = 0; j < keys; ++j) {
    if (first + j >= all_from && first + j < all_to) continue;
    const vi at = broadcast_bits(static_cast<int32_t>(j));
    for (int v = 0; v < vectors; ++v) {
      float* s = scores + j * kLanes2 + v * kLanes;
      store(s, (at >= from[v]) & (at < to[v]) ? load(s) : broadcast(kMinusInfinity));
    }
  }
}

struct Running {
  vf top[2], sum[2];
};

// scores = e^(score - maximum); the factors of what came before go to `correction`.
template <int nv>
void exponentials_of(float* scores, int64_t keys, Running& r, float* correction) {
  vf m[nv], sum[nv] = {};
  for (int v = 0; v < nv; ++v) m[v] = r.top[v];
  for (int64_t j = 0; j < keys; ++j)
    for (int v = 0; v < nv; ++v) m[v] = max(m[v], load(scores + j * kLanes2 + v * kLanes));
  vf safe[nv];  // of keys that are all hidden no e^(-inf + inf)
  for (int v = 0; v < nv; ++v) safe[v] = max(broadcast(-std::numeric_limits<float>::max()), m[v]);
  for (int64_t j = 0; j < keys; ++j)
    for (int v = 0; v < nv; ++v) {
      const vf e = exp_nonpositive(load(scores + j * kLanes2 + v * kLanes) - safe[v]);
      sum[v] += e;
      store(scores + j * kLanes2 + v * kLanes, e);
    }
  for (int v = 0; v < nv; ++v) {
    const vf factor = exp_nonpositive(r.top[v] - safe[v]);
    store(correction + v * kLanes, factor);
    r.sum[v] = r.sum[v] * factor + sum[v];
    r.top[v] = m[v];
  }
}

// The scores as they are, out to the caller. `scale`: what a lane is multiplied with.
template <class E>
void write_scores(const Attention& p, const Instr& instr, int64_t batch, int64_t head, int64_t query, int64_t queries,
                  const float* scores, const vf* scale) {
  E* out = instr.out[1]->as<E>() + batch * p.scores[0] + head * p.scores[1] + query * p.scores[2];
  for (int64_t j = 0; j < p.keys; ++j)
    for (int64_t i = 0; i < queries; ++i)
      from_float(scores[j * kLanes2 + i] * (scale ? scale[i / kLanes][i % kLanes] : 1.0f),
                 out[i * p.scores[2] + j * p.scores[3]]);
}

template <int nv, class E>
void attend_block(const Attention& p, const Instr& instr, int64_t batch, int64_t head, int64_t query, int64_t queries,
                  char* memory) {
  const Scratch s = Scratch::of(p, memory);
  constexpr bool kWidens = !std::is_same_v<E, float>;
  const auto place = [&](int i, const int64_t(&strides)[3], int64_t h, int64_t row) {
    return reinterpret_cast<const E*>(instr.in[i]->data) + batch * strides[0] + h * strides[1] + row * strides[2];
  };
  transpose_queries(place(0, p.q, head, query), p.q[2], queries, p.size, nv, static_cast<float>(p.scale), s.q);
  const Seen seen = Seen::of(p, instr, batch);
  const bool all = p.mode >= 0;
  const int64_t begin = all ? 0 : seen.begin(p, query), end = all ? p.keys : seen.end(p, query + queries - 1);
  const int64_t whole = p.value_size / kLanes2 * kLanes2, rest = p.value_size - whole;
  Running running;
  for (int v = 0; v < nv; ++v) {
    running.top[v] = broadcast(kMinusInfinity);
    running.sum[v] = vf{};
  }
  for (int64_t first = begin; first < end; first += p.block) {
    const int64_t keys = std::min(p.block, end - first);
    const E *k = place(1, p.k, head / p.group, first), *v = place(2, p.v, head / p.group, first);
    const float *kf = s.k, *vf_ = s.v;
    int64_t k_step = p.size, v_step = padded(p.value_size, kLanes);
    if constexpr (kWidens) {
      widen_rows(k, p.k[2], keys, p.size, s.k, k_step);
      widen_rows(v, p.v[2], keys, p.value_size, s.v, v_step);
    } else {
      kf = k, k_step = p.k[2], vf_ = v, v_step = p.v[2];
    }
    tiles<nv, false, false>(keys, p.size, kf, k_step, s.q, kLanes2, s.scores, kLanes2, false, 0);
    if (p.mode == 0) write_scores<E>(p, instr, batch, head, query, queries, s.scores, nullptr);
    if (p.softcap > 0)
      for (float* at = s.scores; at < s.scores + keys * kLanes2; at += kLanes)
        store(at, capped(load(at), static_cast<float>(p.softcap)));
    if (p.mode == 1) write_scores<E>(p, instr, batch, head, query, queries, s.scores, nullptr);
    if (p.mask_size) {
      const int64_t at = batch * p.mask[0] + head * p.mask[1] + query * p.mask[2] + first;
      p.add_mask(p, instr.in[3]->data + at * p.mask_size, s.scores, std::min(keys, p.mask_keys - first), queries, nv);
    }
    hide(p, seen, query, queries, first, keys, s.scores, nv);
    if (p.mode == 2) write_scores<E>(p, instr, batch, head, query, queries, s.scores, nullptr);
    float correction[kLanes2];
    exponentials_of<nv>(s.scores, keys, running, correction);
    const bool adds = first > begin;
    if (adds)
      for (int64_t i = 0; i < queries; ++i)
        for (int64_t c = 0; c < p.value_size; c += kLanes)
          store(s.result + i * p.value_step + c, load(s.result + i * p.value_step + c) * correction[i]);
    for (int64_t c = 0; c < whole; c += kLanes2)
      tiles<2, true, false>(queries, keys, s.scores, kLanes2, vf_ + c, v_step, s.result + c, p.value_step, adds, 0);
    const auto last = [&]<int n>(int tail) {
      if (tail == kLanes)
        tiles<n, true, false>(queries, keys, s.scores, kLanes2, vf_ + whole, v_step, s.result + whole, p.value_step, adds, 0);
      else
        tiles<n, true, true>(queries, keys, s.scores, kLanes2, vf_ + whole, v_step, s.result + whole, p.value_step, adds, tail);
    };
    if (rest > kLanes) last.template operator()<2>(static_cast<int>(rest - kLanes));
    else if (rest > 0) last.template operator()<1>(static_cast<int>(rest));
  }
  vf scale[nv];
  for (int v = 0; v < nv; ++v) scale[v] = running.sum[v] == 0.0f ? vf{} : 1.0f / running.sum[v];
  if (p.mode == 3 && p.keys > 0) write_scores<E>(p, instr, batch, head, query, queries, s.scores, scale);
  E* y = instr.out[0]->as<E>() + batch * p.y[0] + head * p.y[1] + query * p.y[2];
  const bool nothing = begin >= end;
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t c = 0; c < p.value_size; c += kLanes) {
      const vf value = nothing ? vf{} : load(s.result + i * p.value_step + c) * scale[i / kLanes][i % kLanes];
      if (p.value_size - c >= kLanes) store(y + i * p.y[2] + c, value);
      else store_first(y + i * p.y[2] + c, value, static_cast<int>(p.value_size - c));
    }
}

// Flops of a query over all keys.
int64_t work_of(const Attention& p) { return p.keys * (2 * (p.size + p.value_size) + 20) + 1; }

template <class E>
void run_blocks(const Instr& instr, Worker& w) {
  const Attention& p = instr.as<Attention>();
  const int64_t blocks = (p.queries + kLanes2 - 1) / kLanes2;
  const int64_t grain = 1 + 300000 / (work_of(p) * std::min(p.queries, kLanes2) + 1);
  w.parallel(p.batch * p.heads * blocks, grain, [&](int64_t begin, int64_t end, Worker& v) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t batch = i / blocks / p.heads, head = i / blocks % p.heads, query = i % blocks * kLanes2;
      const int64_t queries = std::min(kLanes2, p.queries - query);
      if (queries > kLanes) attend_block<2, E>(p, instr, batch, head, query, queries, v.scratch);
      else attend_block<1, E>(p, instr, batch, head, query, queries, v.scratch);
    }
  });
}

template <class E>
void run_steps(const Instr& instr, Worker& w) {
  const Attention& p = instr.as<Attention>();
  w.parallel(p.batch * p.heads * p.queries, 1 + 100000 / work_of(p), [&](int64_t begin, int64_t end, Worker& v) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t batch = i / p.queries / p.heads, head = i / p.queries % p.heads, query = i % p.queries;
      if constexpr (std::is_same_v<E, double>) attend_plain(p, instr, batch, head, query, v.scratch);
      else attend_step<E>(p, instr, batch, head, query, v.scratch);
    }
  });
}

long long ll(int64_t n) { return static_cast<long long>(n); }

void take_strides(Bind& b, const Tensor& t, const char* what, int64_t (&strides)[3]) {
  if (t.rank != 4) b.host->fail("attention: %s of rank %d", what, t.rank);
  if (t.dims[3] > 1 && t.strides[3] != 1 && t.count() > 0) b.host->fail("attention: %s with stride %lld in its last dim", what, ll(t.strides[3]));
  for (int i = 0; i < 3; ++i) strides[i] = t.strides[i];
}

void take_mask(Bind& b, Attention& p) {
  const Tensor& t = *b.in[3];
  if (t.rank < 1 || t.rank > 4) b.host->fail("attention: mask of rank %d", t.rank);
  const int64_t full[3] = {p.batch, p.heads, p.queries};
  for (int i = 0; i < 3; ++i) {
    const int at = t.rank - 4 + i;
    const int64_t dim = at < 0 ? 1 : t.dims[at];
    if (dim != 1 && dim != full[i]) b.host->fail("attention: dim %d of the mask is %lld, wanted %lld or 1", at, ll(dim), ll(full[i]));
    p.mask[i] = dim == 1 ? 0 : t.strides[at];
  }
  p.mask_keys = t.dims[t.rank - 1];
  if (p.mask_keys > p.keys) b.host->fail("attention: a mask of %lld keys on %lld", ll(p.mask_keys), ll(p.keys));
  if (p.mask_keys > 1 && t.strides[t.rank - 1] != 1 && t.count() > 0) b.host->fail("attention: a mask with gaps");
  p.mask_size = size_of(t.dtype);
  switch (t.dtype) {
    case DType::kBool: p.add_mask = add_mask<Bool>, p.add_mask_row = add_mask_row<Bool>; break;
    case DType::kFloat: p.add_mask = add_mask<float>, p.add_mask_row = add_mask_row<float>; break;
    case DType::kFloat16: p.add_mask = add_mask<f16>, p.add_mask_row = add_mask_row<f16>; break;
    case DType::kBfloat16: p.add_mask = add_mask<bf16>, p.add_mask_row = add_mask_row<bf16>; break;
    default:
      if (t.dtype != DType::kDouble || b.in[0]->dtype != DType::kDouble)
        b.host->fail("attention: a mask of element type %d", static_cast<int>(t.dtype));
  }
  if (b.in[0]->dtype == DType::kDouble && t.dtype != DType::kDouble && t.dtype != DType::kBool)
    b.host->fail("attention: a mask of element type %d on float64", static_cast<int>(t.dtype));
}

Run prepare(Bind& b) {
  Attention& p = b.make<Attention>();
  const Tensor &q = *b.in[0], &k = *b.in[1], &v = *b.in[2], &y = *b.out[0];
  take_strides(b, q, "Q", p.q);
  take_strides(b, k, "K", p.k);
  take_strides(b, v, "V", p.v);
  take_strides(b, y, "Y", p.y);
  p.batch = q.dims[0], p.heads = q.dims[1], p.queries = q.dims[2], p.size = q.dims[3];
  p.keys = k.dims[2], p.value_size = v.dims[3];
  const int64_t groups = k.dims[1];
  if (k.dims[0] != p.batch || v.dims[0] != p.batch || v.dims[1] != groups || v.dims[2] != p.keys || k.dims[3] != p.size ||
      (groups == 0 ? p.heads != 0 : p.heads % groups != 0))
    b.host->fail("attention: Q [%lld, %lld, %lld, %lld], K [%lld, %lld, %lld, %lld], V [%lld, %lld, %lld, %lld]", ll(p.batch),
                 ll(p.heads), ll(p.queries), ll(p.size), ll(k.dims[0]), ll(groups), ll(p.keys), ll(k.dims[3]), ll(v.dims[0]),
                 ll(v.dims[1]), ll(v.dims[2]), ll(p.value_size));
  if (y.dims[0] != p.batch || y.dims[1] != p.heads || y.dims[2] != p.queries || y.dims[3] != p.value_size)
    b.host->fail("attention: the result has other dims");
  p.group = groups ? p.heads / groups : 1;
  p.left = b.ints[0], p.right = b.ints[1], p.offset = b.ints[2];
  p.scale = std::isnan(b.floats[0]) ? 1 / std::sqrt(static_cast<double>(p.size)) : b.floats[0], p.softcap = b.floats[1];
  p.mode = -1;
  p.mask_keys = p.keys;
  if (b.has(3)) take_mask(b, p);
  if (b.has(4)) {
    const Tensor& lengths = *b.in[4];
    p.has_lengths = true;
    p.length_type = lengths.dtype;
    if ((lengths.dtype != DType::kInt64 && lengths.dtype != DType::kInt32) || lengths.count() != p.batch)
      b.host->fail("attention: %lld lengths of element type %d", ll(lengths.count()), static_cast<int>(lengths.dtype));
  }
  if (b.n_out > 1 && b.out[1]) {
    p.mode = static_cast<int>(b.ints[3]);
    for (int i = 0; i < 4; ++i) p.scores[i] = b.out[1]->strides[i];
  }
  p.block = p.mode >= 0 ? p.keys : std::min(p.keys, kKeys);
  p.value_step = padded(p.value_size, kLanes2);
  if (q.dtype == DType::kDouble) {
    b.need_scratch(p.keys * 8 + 64);
    return run_steps<double>;
  }
  const bool steps = p.mode < 0 && p.queries <= kStepQueries;
  if (steps) b.need_scratch((padded(p.size + 1, kLanes) + padded(p.keys, kLanes)) * 4);
  else b.need_scratch(Scratch::bytes(p, q.dtype != DType::kFloat));
  switch (q.dtype) {
    case DType::kFloat: return steps ? run_steps<float> : run_blocks<float>;
    case DType::kFloat16: return steps ? run_steps<f16> : run_blocks<f16>;
    case DType::kBfloat16: return steps ? run_steps<bf16> : run_blocks<bf16>;
    default: b.host->fail("attention has no form for element type %d", static_cast<int>(q.dtype));
  }
}

void shape(Bind& b) {
  const Tensor &q = *b.in[0], &k = *b.in[1], &v = *b.in[2];
  for (int i = 0; i < b.n_out; ++i) {
    if (b.out[i] == nullptr) continue;
    b.out[i]->rank = 4;
    for (int n = 0; n < 3; ++n) b.out[i]->dims[n] = q.dims[n];
    b.out[i]->dims[3] = i == 0 ? v.dims[3] : k.dims[2];
  }
}

const RegisterKernel attention{"attention", prepare, shape};

}  // namespace
}  // namespace graphopt
