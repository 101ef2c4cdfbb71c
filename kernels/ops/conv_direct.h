// What dense convolutions over channels-last images derive from shapes.
#pragma once
#include "ops/conv_end.h"
#include "ops/conv_tile.h"
#include "ops/registry.h"
#include "ops/window.h"

namespace graphopt {

// A strip is a block of output rows (or a part of one row) of one image: what is computed while its input is in L2.
struct DirectPlan {
  Window window;
  ConvEnd end;
  ActivationPass pass;
  int64_t batch, groups, channels, filters;  // channels and filters of one group
  int64_t depth;                             // products of one sum
  int64_t x_batch, x_channel, y_batch, y_channel;  // strides
  int64_t y_offset = 0, weights_offset = 0;  // of the first element that is written, of the first panel
  int64_t residual_batch, residual_channel, residual[kWindowAxes];
  bool scatters;  // channels of the output or of the residual are not innermost
  int64_t strip_rows, strip_columns, row_strips, column_strips;
  int64_t parts;  // a strip's panels are split in so many units of work
  bool copies;    // a strip's input is copied to scratch, with its border
  int64_t copy_rows, copy_columns;
  int64_t pixel, line, slice;  // strides of what the tiles read: a column, a row, a depth step
  ConvSegments segments;
  int64_t segments_of_row;  // of one row of taps

  int64_t panels() const { return conv_panels(filters); }
  int64_t units() const { return batch * window.out[0] * row_strips * column_strips * parts; }
};

// Chooses strips and segments.
void plan_direct(Bind& b, DirectPlan& p);
void run_plan(const DirectPlan& p, const Instr& instr, Worker& worker);

}  // namespace graphopt
