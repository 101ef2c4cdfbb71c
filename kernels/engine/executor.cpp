#include "engine/executor.h"

#include <time.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "engine/errors.h"

namespace graphopt {
namespace {

// Plans of a segment that are kept; the one that was not run for longest goes.
constexpr size_t kPlans = 16;

int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * int64_t{1000000000} + t.tv_nsec;
}

// Whether memory holds just this tensor, by default lying as it does.
bool fits(const Tensor& memory, const Tensor& t, bool same_layout = true) {
  if (memory.dtype != t.dtype || memory.rank != t.rank) return false;
  for (int d = 0; d < t.rank; ++d)
    if (memory.dims[d] != t.dims[d]) return false;
  return !same_layout || t.is_dense();
}

bool overlap(const Tensor& target, const Value& value) {
  if (value.kind == Value::Kind::kSequence) return true;
  if (!value.is_tensor()) return false;
  const Tensor& t = value.tensor;
  return target.data < t.data + t.count() * size_of(t.dtype) && t.data < target.data + target.count() * size_of(target.dtype);
}

}  // namespace

Executor::Executor(const ProgramInfo& program, const Constants& constants, int threads, const Limits& limits)
    : program_(program), constants_(constants), limits_(limits), threads_(threads), planner_(program, constants, arena_, threads),
      sizes_(program.expressions), workers_(threads), buffers_(limits.bytes), frames_(program.modules.size()),
      plans_(static_cast<size_t>(program.n_segments)), kernel_memory_(static_cast<size_t>(program.n_segments)) {
  sizes_.set_symbols(program.symbol_names.size());
  for (const ModuleInfo& module : program.modules) times_.emplace_back(module.instructions.size());
}

void Executor::limit(const Limits& limits) {
  limits_ = limits;
  buffers_.limit(limits.bytes);
}

std::vector<Value> Executor::run(std::vector<Value> inputs, const Callbacks& callbacks, const std::vector<Tensor>& targets) {
  const ModuleInfo& module = program_.main();
  callbacks_ = &callbacks;
  iteration_.clear();
  // Kept from run to run: a thousand registers take 10 us to make.
  auto& kept = frames_.back();
  if (!kept) {
    kept = std::make_unique<Frame>();
    kept->module = &module;
    kept->values.resize(module.registers.size());
    for (size_t i = 0; i < module.registers.size(); ++i)
      if (!module.registers[i].is_local) global_registers_.push_back(static_cast<int32_t>(i));
  }
  Frame& frame = *kept;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int32_t reg = module.inputs[i];
    const RegisterInfo& info = module.registers[static_cast<size_t>(reg)];
    Value& value = inputs[i];
    // One element is taken for a scalar, whatever its rank.
    if (value.is_tensor() && info.rank == 0 && value.tensor.count() == 1) value.tensor.rank = 0;
    if (value.is_tensor() && info.dtype != DType::kUndefined && info.dtype != value.tensor.dtype)
      fail("input '%s' is %s, wanted %s", name_of(frame, reg), described(value.tensor).c_str(), graphopt::name_of(info.dtype));
    if (value.is_tensor() && info.rank >= 0 && info.rank != value.tensor.rank)
      fail("input '%s': rank %d, wanted %d", name_of(frame, reg), value.tensor.rank, info.rank);
    frame.values[static_cast<size_t>(reg)] = std::move(inputs[i]);
  }
  if (!targets.empty()) set_targets(frame, targets);
  enter(frame);
  std::vector<Value> results;
  for (int32_t reg : module.outputs) results.push_back(value_of(frame, reg));
  for (size_t i = 0; i < targets.size(); ++i)
    if (targets[i].data != nullptr) deliver(frame, module.outputs[i], targets[i], results[i]);
  frame.targets.clear();
  for (int32_t reg : global_registers_) frame.values[static_cast<size_t>(reg)].clear();
  return results;
}

void Executor::enter(Frame& frame) {
  define(frame, frame.module->entry);
  for (int32_t reg : frame.module->inputs) check_dims(frame, reg);
  for (const auto& [outside, inside] : frame.module->captures) check_dims(frame, inside);
  for (const Growing& g : frame.module->growing) make_room(frame, g);
  for (const SegmentInfo& segment : frame.module->segments) run_segment(frame, segment);
}

void Executor::run_segment(Frame& frame, const SegmentInfo& segment) {
  if (segment.is_boundary) {
    const InstructionInfo& info = frame.module->instructions[static_cast<size_t>(segment.first)];
    const int64_t start = profiling_ ? now() : 0;
    // What an earlier run told is not known yet in this one.
    for (const Definition& d : segment.definitions) sizes_.define(d.symbol, 0);
    if (info.kernel != nullptr) run_kernel(frame, segment, info);
    else run_named(frame, info);
    if (profiling_) {
      InstructionTime& time = times_[static_cast<size_t>(frame.module - program_.modules.data())][static_cast<size_t>(segment.first)];
      ++time.calls;
      time.nanoseconds += now() - start;
    }
    define(frame, segment.definitions);
    for (int32_t reg : info.outputs)
      if (reg >= 0) check_dims(frame, reg);
  } else {
    run_bound(frame, segment);
    define(frame, segment.definitions);
  }
  for (int32_t reg : segment.dead) frame.values[static_cast<size_t>(reg)].clear();
}

void Executor::run_named(Frame& frame, const InstructionInfo& info) {
  try {
    run_special(frame, info);
  } catch (const ExecutionError& error) {
    // What a body's instruction says has its own name.
    if (std::string_view(error.what()).starts_with("node '")) throw;
    std::vector<Value> values;
    for (int32_t reg : info.inputs) values.push_back(value_of(frame, reg));
    std::vector<Tensor*> in, out(info.outputs.size());
    for (Value& value : values) in.push_back(value.is_tensor() ? &value.tensor : nullptr);
    throw ExecutionError(described(program_, info, error.what(), in.data(), out.data()));
  }
}

Plan& Executor::plan_for(const ModuleInfo& module, const SegmentInfo& segment) {
  Plans& plans = plans_[static_cast<size_t>(segment.number)];
  const auto fits = [&](const Plan& plan) {
    for (size_t i = 0; i < segment.symbols.size(); ++i)
      if (plan.key[i] != sizes_.symbol(segment.symbols[i])) return false;
    return true;
  };
  if (plans.last != nullptr && fits(*plans.last)) return *plans.last;
  for (auto& plan : plans.all)
    if (fits(*plan)) return *(plans.last = plan.get());
  // A body's sizes change with each iteration, a model's with each run.
  if (&module != &program_.main() && plans.last != nullptr) {
    Plan* plan = std::exchange(plans.last, nullptr);
    try {
      planner_.bind(module, segment, sizes_, limits_.bytes, *plan);
    } catch (...) {
      plans.all.clear();
      throw;
    }
    return *(plans.last = plan);
  }
  plans.last = nullptr;
  std::unique_ptr<Plan> made;
  if (plans.all.size() >= kPlans) {
    auto oldest = std::min_element(plans.all.begin(), plans.all.end(), [](const auto& a, const auto& b) { return a->used < b->used; });
    made = std::move(*oldest);
    plans.all.erase(oldest);
  } else {
    made = std::make_unique<Plan>();
  }
  planner_.bind(module, segment, sizes_, limits_.bytes, *made);
  plans.all.push_back(std::move(made));
  return *(plans.last = plans.all.back().get());
}

void Executor::run_bound(Frame& frame, const SegmentInfo& segment) {
  Plan& plan = plan_for(*frame.module, segment);
  plan.used = ++clock_;
  try {
    if (limits_.bytes > 0) arena_.check(plan.arena_bytes, limits_.bytes);
    for (int32_t place : segment.makes) make(frame, segment.looks[static_cast<size_t>(place)].reg, plan.tensors[static_cast<size_t>(place)]);
  } catch (const ExecutionError& error) {
    blame_largest(program_, *frame.module, segment, plan, error.what());
  }
  for (int32_t place : segment.imports) {
    const auto at = static_cast<size_t>(place);
    const int32_t root = segment.looks[static_cast<size_t>(segment.looks[at].root)].reg;
    const Value& value = frame.values[static_cast<size_t>(root)];
    if (!value.is_tensor()) fail("value '%s' is no tensor", name_of(frame, root));
    plan.tensors[at].data = value.tensor.data + plan.offsets[at];
  }
  try {
    workers_.reserve_scratch(plan.scratch);
  } catch (const ExecutionError& error) {
    const Instr& code = plan.code[plan.scratch_of];
    const InstructionInfo& info = frame.module->instructions[static_cast<size_t>(segment.first) + plan.scratch_of];
    throw ExecutionError(described(program_, info, error.what(), code.in, code.out));
  }
  run_code(*frame.module, segment, plan);
}

void Executor::make(Frame& frame, int32_t reg, const Tensor& t) {
  Value& value = frame.values[static_cast<size_t>(reg)];
  value.tensor = t;
  value.kind = Value::Kind::kTensor;
  for (const auto& [target, memory] : frame.targets) {
    if (target != reg || !fits(memory, t)) continue;
    value.owner.reset();
    value.tensor.data = memory.data;
    return;
  }
  value.owner = buffers_.take(t.dtype, t.count());
  value.tensor.data = value.owner.get()->data;
}

void Executor::run_code(const ModuleInfo& module, const SegmentInfo& segment, const Plan& plan) {
  Worker& worker = workers_.worker();
  const Instr* at = plan.code.data();
  const Instr* const end = at + plan.code.size();
  try {
    if (!profiling_) {
      for (; at != end; ++at) at->run(*at, worker);
      return;
    }
    auto& times = times_[static_cast<size_t>(&module - program_.modules.data())];
    for (; at != end; ++at) {
      const int64_t start = now();
      at->run(*at, worker);
      const size_t index = static_cast<size_t>(segment.first + (at - plan.code.data()));
      InstructionTime& time = times[index];
      ++time.calls;
      time.nanoseconds += now() - start;
      const InstructionInfo& info = module.instructions[index];
      for (size_t i = 0; i < info.inputs.size(); ++i)
        if (at->in[i] != nullptr) time.bytes += at->in[i]->count() * size_of(at->in[i]->dtype);
      for (size_t i = 0; i < info.outputs.size(); ++i)
        if (at->out[i] != nullptr) time.bytes += at->out[i]->count() * size_of(at->out[i]->dtype);
    }
  } catch (const ExecutionError& error) {
    const InstructionInfo& info = module.instructions[static_cast<size_t>(segment.first + (at - plan.code.data()))];
    throw ExecutionError(described(program_, info, error.what(), at->in, at->out));
  }
}

void Executor::run_kernel(Frame& frame, const SegmentInfo& segment, const InstructionInfo& info) {
  const ModuleInfo& module = *frame.module;
  try {
    sizes_.evaluate(segment.slots);
  } catch (const ExecutionError& error) {
    blame(program_, module, segment, sizes_, error.what());
  }
  std::vector<Tensor> tensors(info.inputs.size() + info.outputs.size());
  std::vector<Tensor*> operands(tensors.size(), nullptr);
  const auto bind = [&](size_t at, int32_t reg, bool is_output) {
    if (reg < 0) return;
    const RegisterInfo& r = module.registers[static_cast<size_t>(reg)];
    const RegisterInfo& root = module.registers[static_cast<size_t>(r.root)];
    Tensor& t = tensors[at];
    operands[at] = &t;
    const int32_t constant = r.constant >= 0 ? r.constant : root.constant;
    const Value& value = frame.values[static_cast<size_t>(r.root)];
    if (constant >= 0 && r.rank < 0) {
      t = constants_[static_cast<size_t>(constant)];
      return;
    }
    if (is_output && (reg != r.root || !value.is_tensor())) {
      t.dtype = r.dtype;
      return;
    }
    if (constant < 0 && reg == r.root) {
      if (!value.is_tensor()) fail("value '%s' is no tensor", name_of(frame, reg));
      t = value.tensor;
      return;
    }
    t.dtype = r.dtype;
    t.rank = r.rank;
    for (int d = 0; d < t.rank; ++d) t.dims[d] = sizes_[r.dims[static_cast<size_t>(d)]];
    if (r.has_strides)
      for (int d = 0; d < t.rank; ++d) t.strides[d] = sizes_[r.strides[static_cast<size_t>(d)]];
    else t.make_dense();
    const char* base = constant >= 0 ? constants_[static_cast<size_t>(constant)].data : value.tensor.data;
    t.data = const_cast<char*>(base) + sizes_[r.offset] * size_of(r.dtype);
  };
  for (size_t i = 0; i < info.inputs.size(); ++i) bind(i, info.inputs[i], false);
  for (size_t i = 0; i < info.outputs.size(); ++i) {
    if (info.outputs[i] >= 0) frame.values[static_cast<size_t>(info.outputs[i])].clear();
    bind(info.inputs.size() + i, info.outputs[i], true);
  }
  Allocations& memory = kernel_memory_[static_cast<size_t>(segment.number)];
  Tensor* const* in = operands.data();
  Tensor* const* out = operands.data() + info.inputs.size();
  int64_t scratch = 0;
  memory.rewind();
  prepare_instruction(program_, info, in, out, sizes_, memory, threads_, scratch, true);
  try {
    for (size_t i = 0; i < info.outputs.size(); ++i) {
      if (info.outputs[i] < 0) continue;
      Value& value = frame.values[static_cast<size_t>(info.outputs[i])];
      value.tensor = *out[i];
      buffers_.allocate(value);
      *out[i] = value.tensor;
    }
  } catch (const ExecutionError& error) {
    throw ExecutionError(described(program_, info, error.what(), in, out));
  }
  memory.rewind();
  const Instr instr = prepare_instruction(program_, info, in, out, sizes_, memory, threads_, scratch, false);
  try {
    workers_.reserve_scratch(scratch);
    instr.run(instr, workers_.worker());
  } catch (const ExecutionError& error) {
    throw ExecutionError(described(program_, info, error.what(), in, out));
  }
}

void Executor::set_targets(Frame& frame, const std::vector<Tensor>& targets) const {
  for (size_t i = 0; i < targets.size(); ++i) {
    const int32_t reg = frame.module->outputs[i];
    bool is_safe = targets[i].data != nullptr;
    // What overlaps an input may be read after it is written: such an output is copied at the end.
    for (int32_t input : frame.module->inputs) is_safe = is_safe && !overlap(targets[i], frame.values[static_cast<size_t>(input)]);
    for (const auto& [other, memory] : frame.targets) is_safe = is_safe && other != reg;
    if (is_safe) frame.targets.emplace_back(reg, targets[i]);
  }
}

void Executor::deliver(const Frame& frame, int32_t reg, const Tensor& target, Value& result) const {
  const Tensor& t = result.tensor;
  if (!result.is_tensor()) fail("output '%s' is no tensor: it can't go to the memory given for it", name_of(frame, reg));
  if (!fits(target, t, false))
    fail("output '%s' is %s, the memory for it %s", name_of(frame, reg), described(t).c_str(), described(target).c_str());
  if (t.data != target.data) copy_elements(t, target);
  result.clear();
}

const char* Executor::name_of(const Frame& frame, int32_t reg) const {
  return program_.text(frame.module->registers[static_cast<size_t>(reg)].name);
}

}  // namespace graphopt
