// LSTM, GRU and RNN.
//
// Directions and parts of the batch in parallel. For each chunk of steps the inputs of all of them are projected in one
// product; a step then adds the product of the state, whose rows are the batch, and runs the cell over vectors. Constant
// float32 weights are panels of conv_tile.h, a gate a group; other weights and types are summed plainly.
#include <cmath>

#include "ops/recurrent_part.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// ints: cell, hidden, direction (0 forward, 1 reverse, 2 both), layout, input_forget, linear_before_reset, packed,
//       then the activations of all directions; floats: clip, then alpha and beta of each activation
// in: x, w, r, b?, sequence_lens?, initial_h?, initial_c?, p?; out: y?, y_h?, y_c?
constexpr int kFixedInts = 7;
constexpr int64_t kChunkValues = 1 << 19;  // of projected inputs: 2 MiB

template <class T> struct Steps : RecurrentPart<T> {
  using Base = RecurrentPart<T>;
  using typename Base::V;
  using Base::p, Base::instr, Base::rows, Base::row, Base::h, Base::c, Base::bias, Base::projected, Base::direction,
      Base::backwards, Base::zeros, Base::state_bias;

  void clip(V* v, int64_t n) const {
    if (p.clip == 0) return;
    const V most = static_cast<V>(p.clip);
    for (int64_t i = 0; i < n; ++i) v[i] = v[i] > most ? most : v[i] < -most ? -most : v[i];
  }

  // Inputs of steps [first, first + count) times the gates' weights, plus bias, for the rows that have these steps.
  void project(int64_t first, int64_t count) const {
    const Tensor& x = *instr.in[kInX];
    const int64_t wide = p.gates * p.padded;
    for (int64_t b = 0; b < rows; ++b) {
      const int64_t left = this->length(b) - first, n = left < count ? left : count;
      if (n <= 0) continue;
      const T* from = x.as<T>() + this->time(b, first) * p.x_step + (row + b) * p.x_row;
      for (int g = 0; g < p.gates; ++g)
        this->multiply(kInW, g, from, nullptr, p.inputs, backwards ? -p.x_step : p.x_step, n, projected + b * wide + g * p.padded,
                       rows * wide, bias + g * p.padded, false);
    }
  }

  void lstm(int64_t b, V* gate) const {
    const int64_t P = p.padded;
    V *i = gate, *o = gate + P, *f = gate + 2 * P, *g = gate + 3 * P, *cell = c + b * P, *state = h + b * P;
    const Tensor* peepholes = instr.in[kInPeepholes];
    auto peep = [&](V* to, int k) {
      if (peepholes == nullptr) return;
      const T* of = peepholes->as<T>() + direction * peepholes->strides[0] + k * p.hidden * peepholes->strides[1];
      for (int64_t j = 0; j < p.hidden; ++j) to[j] += value_of(of[j * peepholes->strides[1]]) * cell[j];
    };
    const SquashSpec* s = p.squashes[direction];
    peep(i, 0);
    peep(f, 2);
    clip(i, P), clip(f, P), clip(g, P);
    squash(s[0], i, P);
    if (p.input_forget) {
      for (int64_t j = 0; j < P; ++j) f[j] = 1 - i[j];
    } else {
      squash(s[0], f, P);
    }
    squash(s[1], g, P);
    for (int64_t j = 0; j < P; ++j) cell[j] = f[j] * cell[j] + i[j] * g[j];
    peep(o, 1);
    clip(o, P);
    squash(s[0], o, P);
    for (int64_t j = 0; j < P; ++j) state[j] = cell[j];
    squash(s[2], state, P);
    for (int64_t j = 0; j < P; ++j) state[j] *= o[j];
  }

  // The gates of all rows; then the part of the new state that waits for the reset gate.
  void reset(V* gate, int64_t wide) const {
    const int64_t P = p.padded;
    for (int64_t b = 0; b < rows; ++b, gate += wide) {
      V *r = gate + P, *g = gate + 2 * P, *of_state = this->scratch + b * P;
      clip(gate, 2 * P);
      squash(p.squashes[direction][0], gate, 2 * P);
      for (int64_t j = 0; j < P; ++j) {
        if (p.linear_before_reset) g[j] += r[j] * of_state[j];
        else of_state[j] = r[j] * h[b * P + j];
      }
    }
    if (!p.linear_before_reset)
      this->multiply(kInR, 2, nullptr, this->scratch, p.hidden, P, rows, gate - rows * wide + 2 * P, wide, zeros, true);
  }

  void gru(int64_t b, V* gate) const {
    const int64_t P = p.padded;
    V *z = gate, *g = gate + 2 * P, *state = h + b * P;
    clip(g, P);
    squash(p.squashes[direction][1], g, P);
    for (int64_t j = 0; j < P; ++j) state[j] = (1 - z[j]) * g[j] + z[j] * state[j];
  }

  void rnn(int64_t b, V* gate) const {
    clip(gate, p.padded);
    squash(p.squashes[direction][0], gate, p.padded);
    for (int64_t j = 0; j < p.padded; ++j) h[b * p.padded + j] = gate[j];
  }

  // Adds what the state gives to the projected inputs of a step.
  void step(V* gate) const {
    const int64_t wide = p.gates * p.padded, P = p.padded;
    for (int g = 0; g < p.gates; ++g) {
      if (!this->is_apart(g)) this->multiply(kInR, g, nullptr, h, p.hidden, P, rows, gate + g * P, wide, zeros, true);
      else if (p.linear_before_reset) this->multiply(kInR, g, nullptr, h, p.hidden, P, rows, this->scratch, P, state_bias, false);
    }
    if (p.cell == Cell::kGru) reset(gate, wide);
  }

  void store_output(const Tensor& y, int64_t b, int64_t at, bool is_zero) const {
    const int64_t n = row + b, d = direction;
    T* to = y.as<T>() + (p.batch_first ? n * y.strides[0] + at * y.strides[1] + d * y.strides[2]
                                       : at * y.strides[0] + d * y.strides[1] + n * y.strides[2]);
    for (int64_t j = 0; j < p.hidden; ++j) to[j * y.strides[3]] = element_of<T>(is_zero ? V(0) : h[b * p.padded + j]);
  }

  void run() const {
    const Tensor* y = instr.out[0];
    this->load_bias();
    this->load_state(instr.in[kInH], h);
    this->load_state(p.cell == Cell::kLstm ? instr.in[kInC] : nullptr, c);
    const int64_t wide = p.gates * p.padded;
    // Plain sums leave the values between `hidden` and `padded` alone, and sequences may have fewer steps than others.
    for (int64_t i = 0; i < rows * p.padded; ++i) this->scratch[i] = 0;
    if (!p.is_packed || instr.in[kInLengths] != nullptr)
      for (int64_t i = 0; i < p.chunk * rows * wide; ++i) projected[i] = 0;
    for (int64_t first = 0; first < p.steps; first += p.chunk) {
      const int64_t count = p.steps - first < p.chunk ? p.steps - first : p.chunk;
      project(first, count);
      for (int64_t t = 0; t < count; ++t) {
        V* gates = projected + t * rows * wide;
        step(gates);
        for (int64_t b = 0; b < rows; ++b) {
          const bool lives = first + t < this->length(b);
          if (lives) {
            if (p.cell == Cell::kLstm) lstm(b, gates + b * wide);
            else if (p.cell == Cell::kGru) gru(b, gates + b * wide);
            else rnn(b, gates + b * wide);
          }
          // What lies beyond a row's length is zero.
          if (y != nullptr) store_output(*y, b, lives ? this->time(b, first + t) : first + t, !lives);
        }
      }
    }
    this->store_state(instr.out[1], h);
    if (p.cell == Cell::kLstm) this->store_state(instr.out[2], c);
  }
};

template <class T> void run_recurrent(const Instr& instr, Worker& worker) {
  const RecurrentParams& p = instr.as<RecurrentParams>();
  worker.parallel(p.directions * p.splits, 1, [&](int64_t begin, int64_t end, Worker& me) {
    for (int64_t i = begin; i < end; ++i) {
      const int direction = static_cast<int>(i / p.splits);
      const int64_t split = i % p.splits, row = p.batch * split / p.splits, rows = p.batch * (split + 1) / p.splits - row;
      Steps<T> part{{p, instr, direction, direction == 1 || p.reverse, row, rows, {}, {}, {}, {}, {}, {}, {}}};
      for (int64_t b = 0; b < rows; ++b)
        if (part.length(b) < 0 || part.length(b) > p.steps)
          me.host->fail("sequence %lld has length %lld of %lld steps", static_cast<long long>(row + b),
                        static_cast<long long>(part.length(b)), static_cast<long long>(p.steps));
      part.place(reinterpret_cast<Compute<T>*>(me.scratch));
      part.run();
    }
  });
}

void read_squashes(Bind& b, RecurrentParams& p) {
  const int each = p.cell == Cell::kLstm ? 3 : p.cell == Cell::kGru ? 2 : 1;
  if (b.n_ints < kFixedInts + each * p.directions || b.n_floats < 1 + 2 * each * p.directions)
    b.host->fail("a recurrent cell of %d directions needs %d activations", p.directions, each * p.directions);
  for (int d = 0; d < p.directions; ++d)
    for (int k = 0; k < each; ++k) {
      const int i = d * each + k;
      p.squashes[d][k] = SquashSpec{static_cast<Squash>(b.ints[kFixedInts + i]), b.floats[1 + 2 * i], b.floats[2 + 2 * i]};
    }
}

void check(Bind& b, const RecurrentParams& p) {
  const int64_t gate_rows = p.gates * p.hidden;
  auto expect = [&](int i, int64_t d0, int64_t d1, int64_t d2) {
    if (!b.has(i)) return;
    const Tensor& t = *b.in[i];
    const int rank = d2 < 0 ? 2 : 3;
    if (t.rank != rank || t.dims[0] != d0 || t.dims[1] != d1 || (rank == 3 && t.dims[2] != d2))
      b.host->fail("recurrent cell: input %d is not of dims [%lld, %lld, %lld]", i, static_cast<long long>(d0), static_cast<long long>(d1),
                   static_cast<long long>(d2));
  };
  if (!p.is_packed) {
    expect(kInW, p.directions, gate_rows, p.inputs);
    expect(kInR, p.directions, gate_rows, p.hidden);
  } else if (b.in[kInW]->count() != p.directions * p.gates * p.padded * p.inputs * 4 ||
             b.in[kInR]->count() != p.directions * p.gates * p.padded * p.hidden * 4) {
    b.host->fail("recurrent cell: packed weights do not fit %lld inputs and %lld hidden values", static_cast<long long>(p.inputs),
                 static_cast<long long>(p.hidden));
  }
  expect(kInBias, p.directions, 2 * gate_rows, -1);
  const int64_t d0 = p.batch_first ? p.batch : p.directions, d1 = p.batch_first ? p.directions : p.batch;
  expect(kInH, d0, d1, p.hidden);
  expect(kInC, d0, d1, p.hidden);
  expect(kInPeepholes, p.directions, 3 * p.hidden, -1);
  if (b.has(kInLengths) && (b.in[kInLengths]->dtype != DType::kInt32 || b.in[kInLengths]->count() != p.batch))
    b.host->fail("recurrent cell: a batch of %lld needs as many int32 lengths", static_cast<long long>(p.batch));
}

Run prepare_recurrent(Bind& b) {
  const Tensor& x = *b.in[kInX];
  auto& p = b.make<RecurrentParams>();
  if (x.rank != 3 || b.n_ints < kFixedInts || b.n_in < kRecurrentInputs || b.n_out < 3)
    b.host->fail("a recurrent cell takes 3 dims and 8 inputs, not %d and %d", x.rank, b.n_in);
  p.cell = static_cast<Cell>(b.ints[0]);
  p.gates = p.cell == Cell::kLstm ? 4 : p.cell == Cell::kGru ? 3 : 1;
  p.hidden = b.ints[1], p.padded = conv_padded(p.hidden);
  p.directions = b.ints[2] == 2 ? 2 : 1, p.reverse = b.ints[2] == 1;
  p.batch_first = b.ints[3] != 0;
  p.input_forget = b.ints[4] != 0, p.linear_before_reset = b.ints[5] != 0, p.is_packed = b.ints[6] != 0;
  p.clip = b.floats[0];
  p.steps = x.dims[p.batch_first ? 1 : 0], p.batch = x.dims[p.batch_first ? 0 : 1], p.inputs = x.dims[2];
  p.x_step = x.strides[p.batch_first ? 1 : 0], p.x_row = x.strides[p.batch_first ? 0 : 1];
  if (p.inputs > 1 && x.strides[2] != 1) b.host->fail("a recurrent cell reads rows of stride 1");
  if (p.is_packed && x.dtype != DType::kFloat) b.host->fail("packed recurrent weights go with float32");
  read_squashes(b, p);
  check(b, p);
  const int64_t want = (b.threads + p.directions - 1) / p.directions;
  p.splits = p.batch < want ? (p.batch > 0 ? p.batch : 1) : want;
  p.rows = (p.batch + p.splits - 1) / p.splits;
  const int64_t of_step = p.rows * p.gates * p.padded;
  p.chunk = of_step > 0 ? kChunkValues / of_step : 1;
  p.chunk = p.chunk < 1 ? 1 : p.chunk > p.steps && p.steps > 0 ? p.steps : p.chunk;
  b.need_scratch(RecurrentPart<double>::floats(p) * 8);
  const Run run = GRAPHOPT_FOR_FLOATS(x.dtype, run_recurrent);
  if (run == nullptr) b.host->fail("recurrent cells do not take element type %d", static_cast<int>(x.dtype));
  return run;
}

void shape_recurrent(Bind& b) {
  const Tensor& x = *b.in[kInX];
  const bool batch_first = b.ints[3] != 0;
  const int64_t directions = b.ints[2] == 2 ? 2 : 1, hidden = b.ints[1];
  const int64_t steps = x.dims[batch_first ? 1 : 0], batch = x.dims[batch_first ? 0 : 1];
  auto set = [](Tensor* t, int rank, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    if (t == nullptr) return;
    const int64_t dims[4] = {d0, d1, d2, d3};
    t->rank = rank;
    for (int i = 0; i < rank; ++i) t->dims[i] = dims[i];
  };
  if (batch_first) set(b.out[0], 4, batch, steps, directions, hidden);
  else set(b.out[0], 4, steps, directions, batch, hidden);
  for (int k = 1; k < 3; ++k) set(b.out[k], 3, batch_first ? batch : directions, batch_first ? directions : batch, hidden, 0);
}

const RegisterKernel recurrent{"recurrent", prepare_recurrent, shape_recurrent};

}  // namespace
}  // namespace graphopt
