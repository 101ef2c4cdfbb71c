// A segment bound to a set of sizes: tensors with dims, strides and places, instructions with prepared kernels.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/memory.h"
#include "engine/program.h"
#include "engine/values.h"

namespace graphopt {

// Constants of a program as tensors.
using Constants = std::vector<Tensor>;

struct Plan {
  struct Import {  // a tensor whose memory belongs to a value of the frame
    int32_t tensor, root;
    int64_t offset;  // bytes
  };
  struct Export {  // a value of the frame whose memory is made when the segment begins
    int32_t tensor, root;
  };
  std::vector<int64_t> key;       // values of the segment's symbols
  std::vector<Tensor> tensors;    // one for each register of the segment, in its order
  std::vector<Tensor*> operands;  // of all instructions, inputs then outputs
  std::vector<Instr> code;
  std::vector<Allocations> params;  // one an instruction
  std::vector<Import> imports;
  std::vector<Export> exports;
  std::vector<int64_t> local_bytes;  // of each register of the segment that is local and has memory of its own
  std::vector<int64_t> offsets;
  std::vector<int32_t> import_of;  // of each register its number among the imports, or -1
  int64_t arena_bytes = 0, scratch = 0;
  uint64_t used = 0;  // when it was last run, for eviction
};

class Planner {
 public:
  Planner(const ProgramInfo& program, const Constants& constants, int threads)
      : program_(program), constants_(constants), threads_(threads) {}

  // Sizes are evaluated in `sizes`; arena addresses are bound against `arena`, which is grown.
  void build(const ModuleInfo& module, const SegmentInfo& segment, Sizes& sizes, Arena& arena, int64_t limit, Plan& plan) const;
  // The same plan for other sizes: only what depends on the symbols that changed is bound again.
  void rebind(const ModuleInfo& module, const SegmentInfo& segment, Sizes& sizes, Arena& arena, int64_t limit, Plan& plan) const;

 private:
  // Dims, strides and offset of one register; false: its memory does not hold it any more.
  bool bind_tensor(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, size_t i, Plan& plan) const;
  void bind_tensors(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, Plan& plan) const;
  void bind_addresses(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, Arena& arena, int64_t limit, Plan& plan) const;
  void place(const ModuleInfo& module, const SegmentInfo& segment, Plan& plan) const;
  void prepare(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, Plan& plan) const;

  const ProgramInfo& program_;
  const Constants& constants_;
  int threads_;
};

// Prepares one instruction against tensors; its error names the instruction.
Instr prepare_instruction(const ProgramInfo& program, const InstructionInfo& info, Tensor* const* in, Tensor* const* out,
                          const Sizes& sizes, Allocations& memory, int threads, int64_t& scratch, bool compute_dims);

// Sizes can't be, as `text` says: they are computed anew, one instruction after the other, to say whose they are.
[[noreturn]] void blame(const ProgramInfo& program, const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes,
                        const std::string& text);

// "float32"
const char* name_of(DType dtype);
// "float32[2,3]"
std::string described(const Tensor& tensor);

// "node (kernel): text; float[2,3] x, ..."
std::string described(const ProgramInfo& program, const InstructionInfo& info, const std::string& text,
                      Tensor* const* in, Tensor* const* out);

}  // namespace graphopt
