// Recurrent cells: what LSTM, GRU and RNN have in common.
#pragma once
#include "engine/abi.h"

namespace graphopt {

enum class Cell : int64_t { kRnn = 0, kGru = 1, kLstm = 2 };
// Numbers are those of graphopt/lowering/operators/recurrent.py.
enum class Squash : int64_t {
  kSigmoid = 0, kTanh = 1, kRelu = 2, kAffine = 3, kLeakyRelu = 4, kThresholdedRelu = 5, kScaledTanh = 6,
  kHardSigmoid = 7, kElu = 8, kSoftsign = 9, kSoftplus = 10,
};

struct SquashSpec {
  Squash kind;
  double alpha, beta;
};

// Over n values in place; for floats n is a multiple of the vector's length.
void squash(const SquashSpec& s, float* v, int64_t n);
void squash(const SquashSpec& s, double* v, int64_t n);

struct RecurrentParams {
  Cell cell;
  int gates, directions;
  bool reverse, input_forget, linear_before_reset, is_packed;  // reverse: the only direction goes backwards
  bool batch_first;
  double clip;                                                 // 0: none
  SquashSpec squashes[2][3];
  int64_t steps, batch, inputs, hidden, padded;
  int64_t x_step, x_row;
  int64_t chunk;   // steps whose inputs are projected at a time
  int64_t splits;  // of the batch
  int64_t rows;    // of the batch that a part has at most
};

}  // namespace graphopt
