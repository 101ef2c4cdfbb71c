// A segment bound to a set of sizes: tensors with dims, strides and places, instructions with prepared kernels.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/memory.h"
#include "engine/placement.h"
#include "engine/program.h"
#include "engine/values.h"

namespace graphopt {

// Constants of a program as tensors.
using Constants = std::vector<Tensor>;

// By place, as `SegmentInfo::looks` gives them to registers.
struct Plan {
  std::vector<int64_t> key;       // values of the segment's symbols
  std::vector<Tensor> tensors;    // of each register that depends on them
  std::vector<int64_t> offsets;   // bytes from where the register's root begins
  std::vector<int64_t> bytes;     // of memory that lives within the segment
  std::vector<int64_t> begins;    // where in the arena it does
  std::vector<Tensor*> operands;  // of all instructions, inputs then outputs
  std::vector<Instr> code;
  std::vector<Allocations> params;  // of all instructions; of each, where each may be prepared again
  int64_t arena_bytes = 0, scratch = 0;
  size_t scratch_of = 0;  // the instruction that wants so much of it
  uint64_t used = 0;  // when it was last run, for eviction
};

class Planner {
 public:
  Planner(const ProgramInfo& program, const Constants& constants, Arena& arena, int threads)
      : program_(program), constants_(constants), arena_(arena), threads_(threads), fixed_(static_cast<size_t>(program.n_segments)) {}

  // Binds a plan, new or bound to other sizes before, to the values that the symbols have in `sizes`, and its tensors to
  // the arena, which is grown. limit: bytes of the arena; 0: none.
  void bind(const ModuleInfo& module, const SegmentInfo& segment, Sizes& sizes, int64_t limit, Plan& plan);

 private:
  // Tensors of which a symbol changed; false: the arena's places do not hold them any more.
  bool bind_tensors(const ModuleInfo& module, const SegmentInfo& segment, Sizes& sizes, uint64_t changed, Plan& plan);
  // Dims and strides of a register; the bytes from where its root begins.
  int64_t bind_tensor(const ModuleInfo& module, const Look& look, const Sizes& sizes, Tensor& t) const;
  void bind_fixed(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes);
  void bind_operands(const ModuleInfo& module, const SegmentInfo& segment, Plan& plan);
  void place(const SegmentInfo& segment, Plan& plan);
  void bind_addresses(const ModuleInfo& module, const SegmentInfo& segment, int64_t limit, Plan& plan) const;
  void prepare(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, uint64_t changed, Plan& plan) const;
  // A body's sizes may change with each iteration.
  bool is_body(const ModuleInfo& module) const { return &module != &program_.main(); }

  const ProgramInfo& program_;
  const Constants& constants_;
  Arena& arena_;
  int threads_;
  Placement placement_;
  std::vector<std::vector<Tensor>> fixed_;  // by segment, looks at constants that no symbol moves
};

// Prepares one instruction against tensors; its error names the instruction.
Instr prepare_instruction(const ProgramInfo& program, const InstructionInfo& info, Tensor* const* in, Tensor* const* out,
                          const Sizes& sizes, Allocations& memory, int threads, int64_t& scratch, bool compute_dims);

// Sizes can't be, as `text` says: they are computed anew, one instruction after the other, to say whose they are.
[[noreturn]] void blame(const ProgramInfo& program, const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes,
                        const std::string& text);

// An error about memory for a segment: the instruction that makes the largest tensor is named.
[[noreturn]] void blame_largest(const ProgramInfo& program, const ModuleInfo& module, const SegmentInfo& segment,
                                const Plan& plan, const std::string& text);

// "float32"
const char* name_of(DType dtype);
// "float32[2,3]"
std::string described(const Tensor& tensor);

// "node (kernel): text; float[2,3] x, ..."
std::string described(const ProgramInfo& program, const InstructionInfo& info, const std::string& text,
                      Tensor* const* in, Tensor* const* out);

}  // namespace graphopt
