// Copies between two strided views of the same dims: what all movement kernels are made of.
//
// A plan is the copy with its dims sorted by the output's strides, neighbours joined, and the two innermost ones
// (a, b) handed to a function that is chosen for them:
//
//   rows       b is contiguous in both: vectors, or memcpy from 2 KiB on
//   transpose  a is contiguous in the output, b in the input: square tiles in registers, blocks of 64 x 64
//   fill       one element of the input along a contiguous output
//   strided    anything else, blocked where the input likes another order
//
// Zen 4, one thread, GB/s read: rows of 256 bytes permuted 38-42, transposes in L2 24 (16 bits), 30-54 (32), 47 (64),
// 16 (8 bits), of 4 MB 10, of 48 MB 11; three channels interleaved or parted 39-44 (8 bits: 31). That is 1.2 to 13
// times numpy and 1.9 to 12 times onnxruntime's Transpose.
//
// Runs of 2, 4, 8 or 16 bytes count as one element, so that pairs are transposed as fast as numbers.
#pragma once
#include "engine/abi.h"

namespace graphopt {

// Tile and similar cut a dim in two.
constexpr int kMaxAxes = 2 * kMaxRank;

struct CopyAxis {
  int64_t n, from, to;  // size, strides in bytes
};

struct CopyPlan {
  void (*inner)(const char* in, char* out, const CopyAxis& a, const CopyAxis& b);
  CopyAxis a, b;
  CopyAxis outer[kMaxAxes];
  int32_t n_outer;
  bool cut_b;       // which of a and b is cut into pieces of `chunk`
  int64_t cuts, chunk;
  int64_t jobs;     // pieces of all outer indices; 0: nothing to copy
  int64_t bytes;    // written in all
  int64_t from, to; // where to begin, in bytes
};

// Strides count elements. Elements that are strings are assigned.
CopyPlan plan_copy(DType dtype, int rank, const int64_t* dims, const int64_t* from, const int64_t* to);
// The same of two tensors of equal dims.
CopyPlan plan_copy(const Tensor& in, const Tensor& out);

// Jobs [begin, end) of the plan, on this thread.
void copy_jobs(const CopyPlan& plan, const char* in, char* out, int64_t begin, int64_t end);
// The whole plan, on this thread.
inline void copy_all(const CopyPlan& plan, const char* in, char* out) { copy_jobs(plan, in, out, 0, plan.jobs); }
// The whole plan, on all threads.
void copy_parallel(const CopyPlan& plan, const char* in, char* out, Worker& w);

// Several copies at once, shared out by bytes. No input: nothing to do.
struct CopyTask {
  const char* in;
  char* out;
};
void copy_parallel(const CopyPlan* plans, const CopyTask* tasks, int64_t n, Worker& w);

}  // namespace graphopt
