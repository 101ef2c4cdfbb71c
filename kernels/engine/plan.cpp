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

size_t index_of(const SegmentInfo& segment, int32_t reg) {
  return static_cast<size_t>(std::lower_bound(segment.registers.begin(), segment.registers.end(), reg) - segment.registers.begin());
}

// Memory that has its place, and when it is in use.
struct Block {
  int64_t offset, end;
  int32_t first, last;
};

// Placed memory by time: a binary tree over the instructions, each block in the smallest node around its life. A query
// meets what lives at the same time and little else.
class Placed {
 public:
  explicit Placed(int32_t instructions) {
    while (leaves_ < instructions) leaves_ *= 2;
    heads_.assign(static_cast<size_t>(2 * leaves_), -1);
    below_.assign(heads_.size(), 0);
  }
  void add(const Block& block) {
    int32_t node = block.first + leaves_, other = block.last + leaves_;
    while (node != other) node /= 2, other /= 2;
    links_.push_back({block, heads_[static_cast<size_t>(node)]});
    heads_[static_cast<size_t>(node)] = static_cast<int32_t>(links_.size()) - 1;
    for (; node > 0; node /= 2) ++below_[static_cast<size_t>(node)];
  }
  // All that live while `block` does.
  void find(const Block& block, std::vector<Block>& found) const { find(1, 0, leaves_, block, found); }

 private:
  void find(int32_t node, int32_t begin, int32_t end, const Block& block, std::vector<Block>& found) const {
    if (block.last < begin || block.first >= end || below_[static_cast<size_t>(node)] == 0) return;
    for (int32_t i = heads_[static_cast<size_t>(node)]; i >= 0; i = links_[static_cast<size_t>(i)].next) {
      const Block& other = links_[static_cast<size_t>(i)].block;
      if (other.last >= block.first && other.first <= block.last) found.push_back(other);
    }
    if (end - begin == 1) return;
    const int32_t middle = begin + (end - begin) / 2;
    find(2 * node, begin, middle, block, found);
    find(2 * node + 1, middle, end, block, found);
  }

  struct Link {
    Block block;
    int32_t next;
  };
  int32_t leaves_ = 1;
  std::vector<int32_t> heads_, below_;  // by node: its first block; how many there are in it and below
  std::vector<Link> links_;
};

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
  memory.rewind();
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
        checked_count(tensors[i]);
        operands[i] = &tensors[i];
      }
      for (int32_t slot : info.ints) sizes.compute(slot);
    } catch (const ExecutionError& error) {
      throw ExecutionError(described(program, info, error.what(), operands.data(), operands.data() + inputs));
    }
  }
  throw ExecutionError(text);
}

void Planner::build(const ModuleInfo& module, const SegmentInfo& segment, Sizes& sizes, Arena& arena, int64_t limit, Plan& plan) const {
  try {
    sizes.evaluate(segment.slots);
    bind_tensors(module, segment, sizes, plan);
  } catch (const ExecutionError& error) {
    blame(program_, module, segment, sizes, error.what());
  }
  plan.key.clear();
  for (int32_t symbol : segment.symbols) plan.key.push_back(sizes.symbol(symbol));
  place(module, segment, plan);
  bind_addresses(module, segment, sizes, arena, limit, plan);
  prepare(module, segment, sizes, plan);
}

void Planner::bind_addresses(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, Arena& arena, int64_t limit, Plan& plan) const {
  arena.reserve(plan.arena_bytes, limit);
  for (size_t i = 0; i < segment.registers.size(); ++i) {
    const RegisterInfo& info = module.registers[static_cast<size_t>(segment.registers[i])];
    const RegisterInfo& root = module.registers[static_cast<size_t>(info.root)];
    if (root.constant >= 0 || !root.is_local) continue;
    const int64_t offset = sizes[info.offset] * size_of(info.dtype);
    plan.tensors[i].data = arena.base() + plan.offsets[index_of(segment, info.root)] + offset;
  }
}

void Planner::rebind(const ModuleInfo& module, const SegmentInfo& segment, Sizes& sizes, Arena& arena, int64_t limit, Plan& plan) const {
  uint64_t changed = 0;
  for (size_t i = 0; i < segment.symbols.size(); ++i) {
    const int64_t now = sizes.symbol(segment.symbols[i]);
    if (plan.key[i] != now) changed |= uint64_t{1} << (i < 63 ? i : 63);
    plan.key[i] = now;
  }
  bool fits = true;
  try {
    sizes.evaluate(segment.slots);
    for (size_t i = 0; i < segment.registers.size(); ++i)
      if ((segment.register_masks[i] & changed) != 0) fits = bind_tensor(module, segment, sizes, i, plan) && fits;
  } catch (const ExecutionError& error) {
    blame(program_, module, segment, sizes, error.what());
  }
  if (!fits) {
    // What grows will grow again: twice the room.
    for (size_t i = 0; i < segment.registers.size(); ++i)
      if ((segment.register_masks[i] & changed) != 0 && plan.local_bytes[i] >= 0) plan.local_bytes[i] *= 2;
    place(module, segment, plan);
  }
  bind_addresses(module, segment, sizes, arena, limit, plan);
  for (size_t i = 0; i < segment.instruction_masks.size(); ++i) {
    if ((segment.instruction_masks[i] & changed) == 0) continue;
    const InstructionInfo& info = module.instructions[static_cast<size_t>(segment.first) + i];
    plan.code[i] = prepare_instruction(program_, info, plan.code[i].in, plan.code[i].out, sizes, plan.params[i], threads_, plan.scratch, false);
  }
}

bool Planner::bind_tensor(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, size_t i, Plan& plan) const {
  const int32_t number = segment.registers[i];
  const RegisterInfo& info = module.registers[static_cast<size_t>(number)];
  const RegisterInfo& root = module.registers[static_cast<size_t>(info.root)];
  Tensor& t = plan.tensors[i];
  const int32_t constant = info.constant >= 0 ? info.constant : root.constant;
  if (constant >= 0 && info.rank < 0) {
    t = constants_[static_cast<size_t>(constant)];
    return true;
  }
  t.dtype = info.dtype;
  t.rank = info.rank;
  for (int d = 0; d < t.rank; ++d) t.dims[d] = sizes[info.dims[static_cast<size_t>(d)]];
  const int64_t count = checked_count(t);
  if (info.has_strides)
    for (int d = 0; d < t.rank; ++d) t.strides[d] = sizes[info.strides[static_cast<size_t>(d)]];
  else t.make_dense();
  const int64_t offset = sizes[info.offset] * size_of(info.dtype);
  if (constant >= 0) {
    t.data = constants_[static_cast<size_t>(constant)].data + offset;
  } else if (root.is_local) {
    if (info.root != number) return true;
    const int64_t bytes = (bytes_of(t.dtype, count) + kAlign - 1) / kAlign * kAlign;
    if (bytes <= plan.local_bytes[i]) return true;
    plan.local_bytes[i] = bytes;
    return false;
  } else if (plan.import_of[i] >= 0) {
    plan.imports[static_cast<size_t>(plan.import_of[i])].offset = offset;
  } else {
    plan.import_of[i] = static_cast<int32_t>(plan.imports.size());
    plan.imports.push_back({static_cast<int32_t>(i), info.root, offset});
  }
  return true;
}

void Planner::bind_tensors(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, Plan& plan) const {
  const size_t n = segment.registers.size();
  plan.tensors.assign(n, Tensor{});
  plan.local_bytes.assign(n, -1);
  plan.import_of.assign(n, -1);
  plan.imports.clear();
  plan.exports.clear();
  for (size_t i = 0; i < n; ++i) bind_tensor(module, segment, sizes, i, plan);
  for (int32_t root : segment.makes) plan.exports.push_back({static_cast<int32_t>(index_of(segment, root)), root});
}

void Planner::place(const ModuleInfo& module, const SegmentInfo& segment, Plan& plan) const {
  const size_t n = segment.registers.size();
  std::vector<int32_t> first(n, -1), last(n, -1), order;
  for (int32_t i = 0; i < segment.count; ++i) {
    const InstructionInfo& instruction = module.instructions[static_cast<size_t>(segment.first + i)];
    for (const auto* operands : {&instruction.inputs, &instruction.outputs})
      for (int32_t r : *operands) {
        if (r < 0) continue;
        const size_t at = index_of(segment, module.registers[static_cast<size_t>(r)].root);
        if (first[at] < 0) first[at] = i;
        last[at] = i;
      }
  }
  for (size_t i = 0; i < n; ++i)
    if (plan.local_bytes[i] >= 0) order.push_back(static_cast<int32_t>(i));
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const int64_t x = plan.local_bytes[static_cast<size_t>(a)], y = plan.local_bytes[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  // Best fit by decreasing size between those that live at the same time.
  Placed placed(segment.count);
  std::vector<Block> beside;
  plan.offsets.assign(n, 0);
  plan.arena_bytes = 0;
  for (int32_t i : order) {
    const auto at = static_cast<size_t>(i);
    const int64_t size = plan.local_bytes[at];
    Block made{0, 0, first[at], last[at]};
    beside.clear();
    placed.find(made, beside);
    std::sort(beside.begin(), beside.end(), [](const Block& a, const Block& b) { return a.offset < b.offset; });
    int64_t candidate = 0, best = -1, best_gap = INT64_MAX;
    for (const Block& block : beside) {
      if (block.offset - candidate >= size && block.offset - candidate < best_gap) {
        best_gap = block.offset - candidate;
        best = candidate;
      }
      candidate = std::max(candidate, block.end);
    }
    made.offset = best >= 0 ? best : candidate;
    made.end = made.offset + size;
    plan.offsets[at] = made.offset;
    plan.arena_bytes = std::max(plan.arena_bytes, made.end);
    placed.add(made);
  }
}

void Planner::prepare(const ModuleInfo& module, const SegmentInfo& segment, const Sizes& sizes, Plan& plan) const {
  const auto count = static_cast<size_t>(segment.count);
  size_t n_operands = 0;
  for (size_t i = 0; i < count; ++i) {
    const InstructionInfo& info = module.instructions[static_cast<size_t>(segment.first) + i];
    n_operands += info.inputs.size() + info.outputs.size();
  }
  plan.operands.assign(n_operands, nullptr);
  plan.code.resize(count);
  plan.params.resize(count);
  plan.scratch = 0;
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    const InstructionInfo& info = module.instructions[static_cast<size_t>(segment.first) + i];
    Tensor** in = plan.operands.data() + at;
    for (int32_t r : info.inputs) plan.operands[at++] = r < 0 ? nullptr : &plan.tensors[index_of(segment, r)];
    Tensor** out = plan.operands.data() + at;
    for (int32_t r : info.outputs) plan.operands[at++] = r < 0 ? nullptr : &plan.tensors[index_of(segment, r)];
    plan.code[i] = prepare_instruction(program_, info, in, out, sizes, plan.params[i], threads_, plan.scratch, false);
  }
}

}  // namespace graphopt
