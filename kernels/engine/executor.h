// One run at a time of a program: its plans, its memory, its threads.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/memory.h"
#include "engine/plan.h"
#include "engine/pool.h"
#include "engine/program.h"
#include "engine/values.h"

namespace graphopt {

struct Limits {
  int64_t bytes = 0;       // of values and of intermediate results; 0: none
  int64_t iterations = 0;  // of any loop; 0: none
};

// What the engine asks of Python.
struct Callbacks {
  // A node for the reference implementation: the model of one node, values in, values out.
  std::function<void(const InstructionInfo&, const std::vector<Value*>&, const std::vector<Value*>&, BufferPool&)> reference;
  std::function<void(const char* name, const std::vector<int64_t>& iteration, const Value&)> tap;
};

// Time that an instruction took, over all runs since profiling began.
struct InstructionTime {
  int64_t calls = 0;
  int64_t nanoseconds = 0;
  int64_t bytes = 0;  // read and written
};

struct Frame {
  const ModuleInfo* module = nullptr;
  std::vector<Value> values;  // by register; those of local registers stay empty
  int64_t iterations_left = 0;  // of a loop's body, this one among them; 0: not known
  // Memory of the caller for outputs, by register: a segment that makes one of these dims writes it there.
  std::vector<std::pair<int32_t, Tensor>> targets;
};

class Executor {
 public:
  Executor(const ProgramInfo& program, const Constants& constants, int threads, const Limits& limits);

  // Values of the main module's inputs in, of its outputs out.
  // targets: memory for outputs, each with data or empty; such an output is returned as kNone.
  std::vector<Value> run(std::vector<Value> inputs, const Callbacks& callbacks, const std::vector<Tensor>& targets = {});
  void limit(const Limits& limits);
  BufferPool& pool() { return buffers_; }
  int64_t arena_bytes() const { return arena_.bytes(); }

  // Times by module and instruction; empty unless profiling.
  void profile(bool on) { profiling_ = on; }
  const std::vector<std::vector<InstructionTime>>& times() const { return times_; }

 private:
  void enter(Frame& frame);
  void run_segment(Frame& frame, const SegmentInfo& segment);
  void run_bound(Frame& frame, const SegmentInfo& segment);
  // Memory for a value that a segment is the first to write.
  void make(Frame& frame, int32_t reg, const Tensor& t);
  void run_code(const ModuleInfo& module, const SegmentInfo& segment, const Plan& plan);
  void run_kernel(Frame& frame, const SegmentInfo& segment, const InstructionInfo& info);
  // What the engine runs itself; errors name the node.
  void run_named(Frame& frame, const InstructionInfo& info);
  void run_special(Frame& frame, const InstructionInfo& info);
  void run_if(Frame& frame, const InstructionInfo& info);
  void run_loop(Frame& frame, const InstructionInfo& info);
  void run_scan(Frame& frame, const InstructionInfo& info);
  void run_sequence(Frame& frame, const InstructionInfo& info);
  void define(const Frame& frame, const std::vector<Definition>& definitions);
  void check_dims(const Frame& frame, int32_t reg) const;
  void make_room(Frame& frame, const Growing& growing);
  Value value_of(const Frame& frame, int32_t reg) const;
  Plan& plan_for(const ModuleInfo& module, const SegmentInfo& segment);
  // A frame for a body with what it captures; frames are kept for the next time.
  Frame& open(const Frame& outer, int32_t body);
  Value scalar(DType dtype, int64_t content);
  void finish_loop(Frame& frame, const InstructionInfo& info, std::vector<Value>& carried, std::vector<class Stack>& stacks);
  void set_targets(Frame& frame, const std::vector<Tensor>& targets) const;
  // Copies an output to its target unless it was made there.
  void deliver(const Frame& frame, int32_t reg, const Tensor& target, Value& result) const;
  const char* name_of(const Frame& frame, int32_t reg) const;

  const ProgramInfo& program_;
  const Constants& constants_;
  Limits limits_;
  int threads_;
  Arena arena_;
  Planner planner_;
  Sizes sizes_;
  Pool workers_;
  BufferPool buffers_;
  std::vector<std::unique_ptr<Frame>> frames_;  // by module
  std::vector<int32_t> global_registers_;       // of the main module, those that may have a value
  struct Plans {
    std::vector<std::unique_ptr<Plan>> all;
    Plan* last = nullptr;
  };
  std::vector<Plans> plans_;  // by segment
  std::vector<Allocations> kernel_memory_;  // by segment, for instructions that compute dims
  std::vector<int64_t> iteration_;          // of the loops around, outermost first
  uint64_t clock_ = 0;
  const Callbacks* callbacks_ = nullptr;
  bool profiling_ = false;
  std::vector<std::vector<InstructionTime>> times_;
};

// Slices that a Loop or a Scan stacks: room grows by doubling.
class Stack {
 public:
  Stack(int32_t axis, bool is_reversed) : axis_(axis), is_reversed_(is_reversed) {}
  void push(const Value& slice, BufferPool& pool, int64_t expected);
  // The stacked value; where nothing was pushed, `value` has the dims that are known.
  void finish(Value& value, BufferPool& pool);
  int64_t count() const { return count_; }

 private:
  int32_t axis_;
  bool is_reversed_;
  int64_t count_ = 0, room_ = 0;
  Value buffer_;  // [room, ...slice]
};

}  // namespace graphopt
