// How a program walks through memory: dims sorted and merged, and the part of them that a block covers.
#pragma once
#include "ops/elementwise.h"

namespace graphopt::elementwise {

constexpr int kMaxMemory = 24;  // inputs and outputs
constexpr int kMaxSlots = 64;
constexpr int64_t kMinBlock = 128, kMaxBlock = 1024;
constexpr int64_t kBlockBytes = 24 << 10;  // of all slots of a block: they stay in L1 beside what they are read from

enum class Mode : uint8_t {
  kDirect,   // the block lies in the tensor without gaps
  kScalar,   // one element for the whole block
  kCopied,   // the block is gathered into scratch, or scattered from it
  kScratch,  // temporaries
};

// An input, output, temporary or constant.
struct Slot {
  DType dtype = DType::kUndefined;
  int64_t size = 0;              // bytes of an element (of a temporary: what was written last)
  int64_t widest = 0;            // bytes of the largest element that it ever holds
  Mode mode = Mode::kScratch;
  bool fill = false;             // kScalar: a step reads n elements of it
  int64_t strides[kMaxRank] = {};  // in bytes, of the merged dims
  int64_t scratch = -1;          // where its block lies in a thread's scratch; -1: needs none
  const char* constant = nullptr;
};

struct Plan {
  Slot* slots;
  Step* steps;
  int32_t n_in, n_out, n_slots, n_steps;
  int32_t rank, level;  // a block covers `rows` of dim `level` and all of the dims inside it
  int64_t dims[kMaxRank];
  int64_t rows, inner;  // inner: elements of a row
  int64_t chunks;       // blocks along `level`
  int64_t blocks, grain;
};

// Sets the strides of inputs and outputs by numpy's broadcasting to the dims of the outputs; then sorts dims by the first
// output's strides and merges those that all tensors run through in one go. Fails where a tensor can't be broadcast.
void merge_dims(const Bind& b, Plan& p);

// Chooses the block for at most `limit` elements and the modes of inputs and outputs.
void choose_block(Plan& p, int64_t limit, int64_t long_row);

// Between a tensor and a block of `rows` rows in scratch.
void gather(const Plan& p, const Slot& s, const char* from, char* to, int64_t rows);
void scatter(const Plan& p, const Slot& s, const char* from, char* to, int64_t rows);
void fill(char* to, const char* element, int64_t size, int64_t n);

}  // namespace graphopt::elementwise
