#include "engine/plan.h"

#include <algorithm>
#include <string>

#include "engine/errors.h"
#include "engine/pool.h"

namespace graphopt {
namespace {

constexpr int64_t kAlign = 64;

void append(std::string& text, const Tensor* t) {
  if (t == nullptr) {
    text += " -";
    return;
  }
  text += " " + described(*t);
}

int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

void run_nothing(const Instr&, Worker&) {}

// Whether an instruction gives any; if not, a dim beside the one of 0 may be of any size, too many to go over.
bool has_elements(const Bind& b) {
  return std::any_of(b.out, b.out + b.n_out, [](const Tensor* t) { return t != nullptr && t->count() > 0; });
}

// All symbols.
constexpr uint64_t kEverything = ~uint64_t{0};

// Which symbols have another value than the plan was bound to, as bits; it takes the new ones.
uint64_t take_symbols(const SegmentInfo& segment, const Sizes& sizes, Plan& plan) {
  uint64_t changed = plan.code.empty() ? kEverything : 0;
  plan.key.resize(segment.symbols.size());
  for (size_t i = 0; i < segment.symbols.size(); ++i) {
    const int64_t now = sizes.symbol(segment.symbols[i]);
    if (plan.key[i] != now) changed |= uint64_t{1} << (i < 63 ? i : 63);
    plan.key[i] = now;
  }
  return changed;
}

}  // namespace

const char* name_of(DType dtype) {
  static const char* const kNames[] = {"?", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool",
                                       "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
                                       "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4", "int4",
                                       "float4e2m1", "float8e8m0", "uint2", "int2"};
  const auto i = static_cast<size_t>(dtype);
  return i < sizeof kNames / sizeof kNames[0] ? kNames[i] : "?";
}

std::string described(const Tensor& t) {
  std::string text = name_of(t.dtype);
  text += "[";
  for (int i = 0; i < t.rank; ++i) text += (i ? "," : "") + std::to_string(t.dims[i]);
  return text + "]";
}

std::string described(const ProgramInfo& program, const InstructionInfo& info, const std::string& text,
                      Tensor* const* in, Tensor* const* out) {
  std::string message = "node '";
  message += program.text(info.nodes);
  message += "' (";
  message += program.text(info.name);
  message += "): " + text + "; inputs";
  for (size_t i = 0; i < info.inputs.size(); ++i) append(message, in[i]);
  message += ", outputs";
  for (size_t i = 0; i < info.outputs.size(); ++i) append(message, out[i]);
  return message;
}

Instr prepare_instruction(const ProgramInfo& program, const InstructionInfo& info, Tensor* const* in, Tensor* const* out,
                          const Sizes& sizes, Allocations& memory, int threads, int64_t& scratch, bool compute_dims) {
  auto* ints = static_cast<int64_t*>(memory.take(sizeof(int64_t) * (info.ints.size() + 1)));
  for (size_t i = 0; i < info.ints.size(); ++i) ints[i] = sizes[info.ints[i]];
  const std::string& blob = program.blobs[static_cast<size_t>(info.blob)];
  Bind b{};
  b.host = &kHost;
  b.owner = &memory;
  b.in = in;
  b.out = out;
  b.n_in = static_cast<int32_t>(info.inputs.size());
  b.n_out = static_cast<int32_t>(info.outputs.size());
  b.n_ints = static_cast<int32_t>(info.ints.size());
  b.n_floats = static_cast<int32_t>(info.floats.size());
  b.ints = ints;
  b.floats = info.floats.data();
  b.bytes = blob.data();
  b.n_bytes = static_cast<int64_t>(blob.size());
  b.threads = threads;
  try {
    if (compute_dims) {
      if (info.kernel->shape == nullptr) fail("sizes can't be computed while it runs");
      info.kernel->shape(b);
      return Instr{nullptr, in, out, nullptr};
    }
    const Run run = info.kernel->prepare(b);
    if (!has_elements(b)) return Instr{run_nothing, in, out, nullptr};
    scratch = std::max(scratch, b.scratch);
    return Instr{run, in, out, b.params};
  } catch (const ExecutionError& error) {
    throw ExecutionError(described(program, info, error.what(), in, out));
  }
}

void blame(const ProgramInfo& program, const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, const std::string& text) {
  for (int32_t n = 0; n < segment.count; ++n) {
    const InstructionInfo& info = module.instructions[static_cast<size_t>(segment.first + n)];
    const size_t inputs = info.inputs.size();
    std::vector<Tensor> tensors(inputs + info.outputs.size());
    std::vector<Tensor*> operands(tensors.size(), nullptr);
    try {
      for (size_t i = 0; i < tensors.size(); ++i) {
        const int32_t number = i < inputs ? info.inputs[i] : info.outputs[i - inputs];
        if (number < 0) continue;
        const RegisterInfo& reg = module.registers[static_cast<size_t>(number)];
        tensors[i].dtype = reg.dtype;
        tensors[i].rank = reg.rank < 0 ? 0 : reg.rank;
        for (int d = 0; d < reg.rank; ++d) tensors[i].dims[d] = sizes.compute(reg.dims[static_cast<size_t>(d)]);
        checked_bytes(tensors[i]);
        operands[i] = &tensors[i];
      }
      for (int32_t slot : info.ints) sizes.compute(slot);
    } catch (const ExecutionError& error) {
      throw ExecutionError(described(program, info, error.what(), operands.data(), operands.data() + inputs));
    }
  }
  throw ExecutionError(text);
}

void blame_largest(const ProgramInfo& program, const ModuleInfo& module, const SegmentInfo& segment, const Plan& plan,
                   const std::string& text) {
  size_t largest = 0, at = 0;
  int64_t most = -1;
  for (size_t n = 0; n < plan.code.size(); ++n) {
    const InstructionInfo& info = module.instructions[static_cast<size_t>(segment.first) + n];
    at += info.inputs.size();
    for (size_t i = 0; i < info.outputs.size(); ++i, ++at) {
      const Tensor* t = plan.operands[at];
      if (t == nullptr || times(t->count(), size_of(t->dtype)) <= most) continue;
      most = times(t->count(), size_of(t->dtype));
      largest = n;
    }
  }
  if (most < 0) throw ExecutionError(text);
  const Instr& code = plan.code[largest];
  throw ExecutionError(described(program, module.instructions[static_cast<size_t>(segment.first) + largest], text, code.in, code.out));
}

void Planner::bind(const ModuleInfo& module, const SegmentInfo& segment, Sizes& sizes, int64_t limit, Plan& plan) {
  const uint64_t changed = take_symbols(segment, sizes, plan);
  bool fits = false;
  try {
    sizes.evaluate(segment.slots);
    fits = bind_tensors(module, segment, sizes, changed, plan);
  } catch (const ExecutionError& error) {
    blame(program_, module, segment, sizes, error.what());
  }
  if (plan.code.empty()) bind_operands(module, segment, plan);
  if (!fits) place(segment, plan);
  bind_addresses(module, segment, limit, plan);
  prepare(module, segment, sizes, changed, plan);
}

bool Planner::bind_tensors(const ModuleInfo& module, const SegmentInfo& segment, Sizes& sizes, uint64_t changed, Plan& plan) {
  if (plan.code.empty()) {
    bind_fixed(module, segment, sizes);
    plan.tensors.resize(segment.n_bound);
    plan.offsets.resize(segment.n_bound);
    plan.bytes.assign(segment.locals.size(), 0);
  }
  for (size_t i = 0; i < segment.n_bound; ++i)
    if (changed == kEverything || (segment.looks[i].symbols & changed) != 0)
      plan.offsets[i] = bind_tensor(module, segment.looks[i], sizes, plan.tensors[i]);
  bool fits = is_body(module);
  for (size_t i = 0; i < segment.locals.size(); ++i) {
    const Tensor& t = plan.tensors[static_cast<size_t>(segment.locals[i])];
    const int64_t bytes = aligned(checked_bytes(t));
    fits = fits && bytes <= plan.bytes[i];
    if (!is_body(module) || bytes > plan.bytes[i]) plan.bytes[i] = bytes;
  }
  // What grows in a loop will grow again: twice the room.
  if (!fits && changed != kEverything && is_body(module))
    for (size_t i = 0; i < segment.locals.size(); ++i)
      if ((segment.looks[static_cast<size_t>(segment.locals[i])].symbols & changed) != 0) plan.bytes[i] *= 2;
  return fits;
}

int64_t Planner::bind_tensor(const ModuleInfo& module, const Look& look, const Sizes& sizes, Tensor& t) const {
  const RegisterInfo& info = module.registers[static_cast<size_t>(look.reg)];
  const RegisterInfo& root = module.registers[static_cast<size_t>(info.root)];
  const int32_t constant = info.constant >= 0 ? info.constant : root.constant;
  if (constant >= 0 && info.rank < 0) {
    t = constants_[static_cast<size_t>(constant)];
    return 0;
  }
  t.dtype = info.dtype;
  t.rank = info.rank;
  for (int d = 0; d < t.rank; ++d) t.dims[d] = sizes[info.dims[static_cast<size_t>(d)]];
  checked_bytes(t);
  if (info.has_strides)
    for (int d = 0; d < t.rank; ++d) t.strides[d] = sizes[info.strides[static_cast<size_t>(d)]];
  else t.make_dense();
  const int64_t offset = times(sizes[info.offset], size_of(info.dtype));
  if (constant >= 0) t.data = constants_[static_cast<size_t>(constant)].data + offset;
  return offset;
}

void Planner::bind_fixed(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes) {
  auto& fixed = fixed_[static_cast<size_t>(segment.number)];
  fixed.resize(segment.looks.size() - segment.n_bound);
  for (size_t i = 0; i < fixed.size(); ++i) bind_tensor(module, segment.looks[segment.n_bound + i], sizes, fixed[i]);
}

void Planner::bind_operands(const ModuleInfo& module, const SegmentInfo& segment, Plan& plan) {
  auto& fixed = fixed_[static_cast<size_t>(segment.number)];
  plan.operands.resize(segment.operands.size());
  for (size_t i = 0; i < plan.operands.size(); ++i) {
    const int32_t place = segment.operands[i];
    const auto at = static_cast<size_t>(place);
    plan.operands[i] = place < 0 ? nullptr : at < segment.n_bound ? &plan.tensors[at] : &fixed[at - segment.n_bound];
  }
  plan.code.resize(static_cast<size_t>(segment.count));
  Tensor* const* at = plan.operands.data();
  for (size_t i = 0; i < plan.code.size(); ++i) {
    const InstructionInfo& info = module.instructions[static_cast<size_t>(segment.first) + i];
    plan.code[i] = Instr{nullptr, at, at + info.inputs.size(), nullptr};
    at += info.inputs.size() + info.outputs.size();
  }
}

void Planner::place(const SegmentInfo& segment, Plan& plan) {
  plan.begins.assign(segment.looks.size(), 0);
  placement_.clear();
  for (size_t i = 0; i < segment.locals.size(); ++i) {
    const auto at = static_cast<size_t>(segment.locals[i]);
    placement_.add({segment.looks[at].life, plan.bytes[i], &plan.begins[at]});
  }
  plan.arena_bytes = placement_.place(segment.count);
}

void Planner::bind_addresses(const ModuleInfo& module, const SegmentInfo& segment, int64_t limit, Plan& plan) const {
  try {
    arena_.reserve(plan.arena_bytes, limit);
  } catch (const ExecutionError& error) {
    blame_largest(program_, module, segment, plan, error.what());
  }
  for (int32_t place : segment.local_looks) {
    const auto at = static_cast<size_t>(place);
    plan.tensors[at].data = arena_.base() + plan.begins[static_cast<size_t>(segment.looks[at].root)] + plan.offsets[at];
  }
}

void Planner::prepare(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, uint64_t changed, Plan& plan) const {
  // What is prepared together lies together, in the order in which it is run.
  const bool is_apart = is_body(module);
  plan.params.resize(is_apart ? plan.code.size() : 1);
  if (!is_apart) plan.params[0].rewind();
  for (size_t i = 0; i < plan.code.size(); ++i) {
    if (is_apart && changed != kEverything && (segment.prepared_by[i] & changed) == 0) continue;
    Allocations& memory = plan.params[is_apart ? i : 0];
    if (is_apart) memory.rewind();
    const InstructionInfo& info = module.instructions[static_cast<size_t>(segment.first) + i];
    const int64_t scratch = plan.scratch;
    plan.code[i] = prepare_instruction(program_, info, plan.code[i].in, plan.code[i].out, sizes, memory, threads_, plan.scratch, false);
    if (plan.scratch > scratch) plan.scratch_of = i;
  }
}

}  // namespace graphopt
