// Attention of single queries: decoding a step. Nothing is packed; keys are read once as rows, values once as rows.
//
// Bound by the bytes of the caches, which go by at 70 GB/s: 16 dot products are summed up together, four columns of vectors of values at a time.
#pragma once
#include "ops/attention.h"
#include "ops/attention_tiles.h"

namespace graphopt {

template <class M>
void add_mask_row(const char* mask, float* scores, int64_t keys) {
  const M* row = reinterpret_cast<const M*>(mask);
  for (int64_t j = 0; j < keys; j += kLanes) {
    const int n = static_cast<int>(std::min<int64_t>(kLanes, keys - j));
    store(scores + j, load(scores + j) + load_mask(row + j, n));
  }
}

// scores[j] = q . k[j] * scale; q is float, padded with zeros to whole vectors.
template <class E>
void dot_rows(const float* q, const E* k, int64_t k_step, int64_t keys, int64_t size, float scale, float* scores) {
  const int64_t whole = size / kLanes * kLanes;
  const int tail = static_cast<int>(size - whole);
  for (int64_t j = 0; j < keys; j += kLanes) {
    const int64_t last = std::min<int64_t>(kLanes, keys - j) - 1;
    vf sum[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const E* row = k + (j + std::min<int64_t>(i, last)) * k_step;
      vf s{}, other{};
      int64_t c = 0;
      for (; c + 2 * kLanes <= whole; c += 2 * kLanes) {
        s += load(q + c) * load(row + c);
        other += load(q + c + kLanes) * load(row + c + kLanes);
      }
      if (c < whole) s += load(q + c) * load(row + c);
      if (tail) other += load(q + whole) * load_first(row + whole, tail);
      sum[i] = s + other;
    }
    store(scores + j, sums_of(sum) * scale);
  }
}

// scores = e^(score - largest), 0 beyond the last; their sum.
inline float exponentials(float* scores, int64_t keys) {
  const vf lowest = broadcast(kMinusInfinity);
  const int64_t whole = keys / kLanes * kLanes;
  const int tail = static_cast<int>(keys - whole);
  if (tail) store(scores + whole, first_lanes(load(scores + whole), tail, lowest));
  vf top = lowest;
  for (int64_t j = 0; j < keys; j += kLanes) top = max(top, load(scores + j));
  const vf m = broadcast(std::max(max_of(top), -std::numeric_limits<float>::max()));
  vf sum{};
  for (int64_t j = 0; j < keys; j += kLanes) {
    const vf e = exp_nonpositive(load(scores + j) - m);
    sum += e;
    store(scores + j, e);
  }
  return sum_of(sum);
}

// y[c] = sum of p[j] * v[j][c], times scale: nv vectors of columns, the last with `tail` lanes.
template <int nv, class E>
void weigh_rows(const float* p, const E* v, int64_t v_step, int64_t keys, float scale, E* y, int tail) {
  vf even[nv] = {}, odd[nv] = {};
  const auto get = [&](const E* row, int c) {
    return nv == 1 && tail < kLanes ? load_first(row, tail) : load(row + c * kLanes);
  };
  int64_t j = 0;
  for (; j + 2 <= keys; j += 2)
#pragma GCC unroll 4
    for (int c = 0; c < nv; ++c) {
      even[c] += broadcast(p[j]) * get(v + j * v_step, c);
      odd[c] += broadcast(p[j + 1]) * get(v + (j + 1) * v_step, c);
    }
  for (int c = 0; c < nv; ++c) {
    vf sum = even[c] + odd[c];
    if (j < keys) sum += broadcast(p[j]) * get(v + j * v_step, c);
    if (nv == 1 && tail < kLanes) store_first(y, sum * scale, tail);
    else store(y + c * kLanes, sum * scale);
  }
}

template <class E>
void attend_step(const Attention& p, const Instr& instr, int64_t batch, int64_t head, int64_t query, char* scratch) {
  float* q = reinterpret_cast<float*>(scratch);
  float* scores = q + (p.size + kLanes) / kLanes * kLanes;
  const E* from = instr.in[0]->as<E>() + batch * p.q[0] + head * p.q[1] + query * p.q[2];
  for (int64_t c = 0; c < p.size; c += kLanes)
    store(q + c, p.size - c >= kLanes ? load(from + c) : load_first(from + c, static_cast<int>(p.size - c)));
  const Seen seen = Seen::of(p, instr, batch);
  const int64_t begin = seen.begin(p, query), keys = std::max<int64_t>(0, seen.end(p, query) - begin);
  const E* k = instr.in[1]->as<E>() + batch * p.k[0] + head / p.group * p.k[1] + begin * p.k[2];
  dot_rows(q, k, p.k[2], keys, p.size, static_cast<float>(p.scale), scores);
  if (p.softcap > 0)
    for (int64_t j = 0; j < keys; j += kLanes) store(scores + j, capped(load(scores + j), static_cast<float>(p.softcap)));
  if (p.mask_size) {
    const int64_t at = batch * p.mask[0] + head * p.mask[1] + query * p.mask[2] + begin;
    p.add_mask_row(instr.in[3]->data + at * p.mask_size, scores, keys);
  }
  const float sum = exponentials(scores, keys), scale = sum == 0 ? 0 : 1 / sum;
  const E* v = instr.in[2]->as<E>() + batch * p.v[0] + head / p.group * p.v[1] + begin * p.v[2];
  E* y = instr.out[0]->as<E>() + batch * p.y[0] + head * p.y[1] + query * p.y[2];
  int64_t c = 0;
  for (; c + 4 * kLanes <= p.value_size; c += 4 * kLanes) weigh_rows<4>(scores, v + c, p.v[2], keys, scale, y + c, kLanes);
  for (; c < p.value_size; c += kLanes)
    weigh_rows<1>(scores, v + c, p.v[2], keys, scale, y + c, static_cast<int>(std::min<int64_t>(kLanes, p.value_size - c)));
}

// float64, in the plain way.
inline void attend_plain(const Attention& p, const Instr& instr, int64_t batch, int64_t head, int64_t query, char* scratch) {
  double* scores = reinterpret_cast<double*>(scratch);
  const double* q = instr.in[0]->as<double>() + batch * p.q[0] + head * p.q[1] + query * p.q[2];
  const double* k = instr.in[1]->as<double>() + batch * p.k[0] + head / p.group * p.k[1];
  const double* v = instr.in[2]->as<double>() + batch * p.v[0] + head / p.group * p.v[1];
  double* y = instr.out[0]->as<double>() + batch * p.y[0] + head * p.y[1] + query * p.y[2];
  double* out = p.mode < 0 ? nullptr
                           : instr.out[1]->as<double>() + batch * p.scores[0] + head * p.scores[1] + query * p.scores[2];
  const Seen seen = Seen::of(p, instr, batch);
  const int64_t begin = seen.begin(p, query), end = seen.end(p, query);
  const int64_t mask = batch * p.mask[0] + head * p.mask[1] + query * p.mask[2];
  double top = -std::numeric_limits<double>::max(), sum = 0;
  for (int64_t j = 0; j < p.keys; ++j) {
    double s = 0;
    for (int64_t c = 0; c < p.size; ++c) s += q[c] * k[j * p.k[2] + c];
    s *= p.scale;
    if (p.mode == 0) out[j * p.scores[3]] = s;
    if (p.softcap > 0) s = p.softcap * std::tanh(s / p.softcap);
    if (p.mode == 1) out[j * p.scores[3]] = s;
    if (j < begin || j >= end) s = -std::numeric_limits<double>::infinity();
    else if (p.mask_size == 8) s += instr.in[3]->as<double>()[mask + j];
    else if (p.mask_size == 1 && !instr.in[3]->as<bool>()[mask + j]) s = -std::numeric_limits<double>::infinity();
    if (p.mode == 2) out[j * p.scores[3]] = s;
    scores[j] = s;
    top = s > top ? s : top;
  }
  for (int64_t j = 0; j < p.keys; ++j) sum += scores[j] = std::exp(scores[j] - top);
  for (int64_t j = 0; j < p.keys; ++j) {
    scores[j] = sum == 0 ? 0 : scores[j] / sum;
    if (p.mode == 3) out[j * p.scores[3]] = scores[j];
  }
  for (int64_t c = 0; c < p.value_size; ++c) {
    double s = 0;
    for (int64_t j = begin; j < end; ++j) s += scores[j] * v[j * p.v[2] + c];
    y[c] = s;
  }
}

}  // namespace graphopt
