// If, Loop and Scan. Carried values are handed on by reference: what an iteration frees, the next one takes.
#include <cstring>

#include "engine/errors.h"
#include "engine/executor.h"

namespace graphopt {
namespace {

bool is_true(const Value& value) {
  if (!value.is_tensor() || value.tensor.dtype != DType::kBool || value.tensor.count() != 1) fail("a condition is one bool");
  return *value.tensor.as<uint8_t>() != 0;
}

}  // namespace

Frame& Executor::open(const Frame& outer, int32_t body) {
  auto& kept = frames_[static_cast<size_t>(body)];
  if (!kept) {
    kept = std::make_unique<Frame>();
    kept->module = &program_.modules[static_cast<size_t>(body)];
    kept->values.resize(kept->module->registers.size());
  }
  for (const auto& [outside, inside] : kept->module->captures) {
    kept->values[static_cast<size_t>(inside)] = value_of(outer, outside);
  }
  return *kept;
}

Value Executor::scalar(DType dtype, int64_t content) {
  Value value;
  value.tensor.dtype = dtype;
  value.tensor.rank = 0;
  buffers_.allocate(value);
  if (dtype == DType::kBool) *value.tensor.as<uint8_t>() = static_cast<uint8_t>(content);
  else *value.tensor.as<int64_t>() = content;
  return value;
}

void Executor::run_if(Frame& frame, const InstructionInfo& info) {
  const Value condition = value_of(frame, info.inputs[0]);
  Frame& body = open(frame, info.bodies[is_true(condition) ? 0 : 1]);
  enter(body);
  for (size_t i = 0; i < info.outputs.size(); ++i)
    if (info.outputs[i] >= 0) frame.values[static_cast<size_t>(info.outputs[i])] = value_of(body, body.module->outputs[i]);
  for (Value& value : body.values) value.clear();
}

void Executor::finish_loop(Frame& frame, const InstructionInfo& info, std::vector<Value>& carried, std::vector<Stack>& stacks) {
  const size_t n = carried.size();
  for (size_t i = 0; i < info.outputs.size(); ++i) {
    if (info.outputs[i] < 0) continue;
    Value& value = frame.values[static_cast<size_t>(info.outputs[i])];
    if (i < n) {
      value = std::move(carried[i]);
      value.room = 0;
      if (value.is_tensor() && !value.tensor.is_dense()) {
        // What was appended in place lies apart.
        Value dense;
        dense.tensor = value.tensor;
        buffers_.allocate(dense);
        copy_elements(value.tensor, dense.tensor);
        value = std::move(dense);
      }
      continue;
    }
    const RegisterInfo& r = frame.module->registers[static_cast<size_t>(info.outputs[i])];
    value.clear();
    value.tensor.dtype = r.dtype;
    value.tensor.rank = r.rank < 0 ? 1 : r.rank;
    // What no slice tells is told by the program, or 0.
    for (int d = 0; d < r.rank && stacks[i - n].count() == 0; ++d)
      value.tensor.dims[d] = sizes_.compute(r.dims[static_cast<size_t>(d)]);
    stacks[i - n].finish(value, buffers_);
  }
}

void Executor::run_loop(Frame& frame, const InstructionInfo& info) {
  const auto n = static_cast<size_t>(info.inputs.size() - 2);
  int64_t most = INT64_MAX;
  if (info.inputs[0] >= 0) {
    const Value trips = value_of(frame, info.inputs[0]);
    if (trips.tensor.count() != 1) fail("a trip count is one number");
    most = *trips.tensor.as<int64_t>();
  }
  Value condition;
  bool goes_on = true;
  if (info.inputs[1] >= 0) {
    condition = value_of(frame, info.inputs[1]);
    goes_on = is_true(condition);
  }
  std::vector<Value> carried;
  for (size_t i = 0; i < n; ++i) {
    carried.push_back(value_of(frame, info.inputs[i + 2]));
    carried.back().room = 0;
  }
  const ModuleInfo& module = program_.modules[static_cast<size_t>(info.bodies[0])];
  std::vector<Stack> stacks(module.outputs.size() - 1 - n, Stack(0, false));
  Frame& body = open(frame, info.bodies[0]);
  iteration_.push_back(0);
  const auto set = [&](size_t input, Value value) {
    if (input < module.inputs.size()) body.values[static_cast<size_t>(module.inputs[input])] = std::move(value);
  };
  for (int64_t i = 0; i < most && goes_on; ++i) {
    if (limits_.iterations > 0 && i >= limits_.iterations)
      fail("node '%s' (Loop) does not end within %lld iterations", program_.text(info.nodes), static_cast<long long>(limits_.iterations));
    iteration_.back() = i;
    body.iterations_left = most == INT64_MAX ? 0 : most - i;
    set(0, scalar(DType::kInt64, i));
    // The standard wants a scalar; models give vectors of one element as well.
    set(1, scalar(DType::kBool, 1));
    for (size_t c = 0; c < n; ++c) set(c + 2, std::move(carried[c]));
    enter(body);
    condition = value_of(body, module.outputs[0]);
    goes_on = is_true(condition);
    for (size_t c = 0; c < n; ++c) carried[c] = value_of(body, module.outputs[c + 1]);
    for (size_t s = 0; s < stacks.size(); ++s)
      stacks[s].push(value_of(body, module.outputs[n + 1 + s]), buffers_, most == INT64_MAX ? 0 : most);
    for (int32_t reg : module.handed_on) body.values[static_cast<size_t>(reg)].clear();
  }
  iteration_.pop_back();
  for (Value& value : body.values) value.clear();
  finish_loop(frame, info, carried, stacks);
}

// One slice of a scanned input, as a view.
static Value slice_of(const Value& value, int64_t axis, int64_t index) {
  Value slice = value;
  Tensor& t = slice.tensor;
  t.data += index * t.strides[axis] * size_of(t.dtype);
  for (int d = static_cast<int>(axis); d + 1 < t.rank; ++d) {
    t.dims[d] = t.dims[d + 1];
    t.strides[d] = t.strides[d + 1];
  }
  --t.rank;
  return slice;
}

void Executor::run_scan(Frame& frame, const InstructionInfo& info) {
  const auto integer = [&](size_t i) { return sizes_.compute(info.ints[i]); };
  const auto states = static_cast<size_t>(integer(0)), slices = static_cast<size_t>(integer(1)), stacked = static_cast<size_t>(integer(2));
  std::vector<Value> carried, scanned;
  for (size_t i = 0; i < states; ++i) carried.push_back(value_of(frame, info.inputs[i]));
  std::vector<int64_t> axes;
  int64_t length = -1;
  for (size_t i = 0; i < slices; ++i) {
    scanned.push_back(value_of(frame, info.inputs[states + i]));
    int64_t axis = integer(3 + i);
    axis = axis < 0 ? axis + scanned[i].tensor.rank : axis;
    if (axis < 0 || axis >= scanned[i].tensor.rank) fail("node '%s' (Scan): axis %lld of a tensor of rank %d", program_.text(info.nodes), static_cast<long long>(axis), scanned[i].tensor.rank);
    axes.push_back(axis);
    const int64_t n = scanned[i].tensor.dims[axis];
    if (length >= 0 && n != length) fail("node '%s' (Scan): inputs of %lld and %lld slices", program_.text(info.nodes), static_cast<long long>(length), static_cast<long long>(n));
    length = n;
  }
  std::vector<Stack> stacks;
  for (size_t i = 0; i < stacked; ++i)
    stacks.emplace_back(static_cast<int32_t>(integer(3 + 2 * slices + i)), integer(3 + 2 * slices + stacked + i) != 0);
  const ModuleInfo& module = program_.modules[static_cast<size_t>(info.bodies[0])];
  Frame& body = open(frame, info.bodies[0]);
  iteration_.push_back(0);
  for (int64_t i = 0; i < length; ++i) {
    iteration_.back() = i;
    body.iterations_left = length - i;
    for (size_t s = 0; s < states; ++s) body.values[static_cast<size_t>(module.inputs[s])] = std::move(carried[s]);
    for (size_t s = 0; s < slices; ++s) {
      const bool is_reversed = integer(3 + slices + s) != 0;
      Value slice = slice_of(scanned[s], axes[s], is_reversed ? length - 1 - i : i);
      if (!slice.tensor.is_dense()) {
        Value dense;
        dense.tensor = slice.tensor;
        buffers_.allocate(dense);
        copy_elements(slice.tensor, dense.tensor);
        slice = std::move(dense);
      }
      body.values[static_cast<size_t>(module.inputs[states + s])] = std::move(slice);
    }
    enter(body);
    for (size_t s = 0; s < states; ++s) carried.at(s) = value_of(body, module.outputs[s]);
    for (size_t s = 0; s < stacked; ++s) stacks[s].push(value_of(body, module.outputs[states + s]), buffers_, length);
    for (int32_t reg : module.handed_on) body.values[static_cast<size_t>(reg)].clear();
  }
  iteration_.pop_back();
  for (Value& value : body.values) value.clear();
  finish_loop(frame, info, carried, stacks);
}

void Executor::run_special(Frame& frame, const InstructionInfo& info) {
  switch (info.special) {
    case Special::kIf: return run_if(frame, info);
    case Special::kLoop: return run_loop(frame, info);
    case Special::kScan: return run_scan(frame, info);
    case Special::kReference: {
      std::vector<Value> constants(info.inputs.size());
      std::vector<Value*> in, out;
      for (size_t i = 0; i < info.inputs.size(); ++i) {
        constants[i] = value_of(frame, info.inputs[i]);
        in.push_back(&constants[i]);
      }
      for (int32_t reg : info.outputs) out.push_back(&frame.values[static_cast<size_t>(reg)]);
      return callbacks_->reference(info, in, out, buffers_);
    }
    case Special::kTap: {
      const Value value = value_of(frame, info.inputs[0]);
      if (callbacks_->tap) callbacks_->tap(program_.blobs[static_cast<size_t>(info.blob)].c_str(), iteration_, value);
      return;
    }
    default: return run_sequence(frame, info);
  }
}

void Stack::push(const Value& slice, BufferPool& pool, int64_t expected) {
  const Tensor& from = slice.tensor;
  if (!slice.is_tensor()) fail("only tensors are stacked");
  if (count_ == room_) {
    Value grown;
    grown.tensor.dtype = from.dtype;
    grown.tensor.rank = from.rank + 1;
    if (grown.tensor.rank > kMaxRank) fail("a stack of rank %d", grown.tensor.rank);
    room_ = room_ > 0 ? room_ * 2 : (expected > 0 && expected < 64 ? expected : 8);
    grown.tensor.dims[0] = room_;
    for (int d = 0; d < from.rank; ++d) grown.tensor.dims[d + 1] = from.dims[d];
    pool.allocate(grown);
    if (count_ > 0) {
      Tensor old = buffer_.tensor, part = grown.tensor;
      old.dims[0] = part.dims[0] = count_;
      copy_elements(old, part);
    }
    buffer_ = std::move(grown);
  }
  Tensor to = slice_of(buffer_, 0, count_).tensor;
  for (int d = 0; d < from.rank; ++d)
    if (to.dims[d] != from.dims[d]) fail("slices of dims %lld and %lld are stacked", static_cast<long long>(to.dims[d]), static_cast<long long>(from.dims[d]));
  copy_elements(from, to);
  ++count_;
}

void Stack::finish(Value& value, BufferPool& pool) {
  const int axis = axis_ < 0 ? axis_ + (count_ > 0 ? buffer_.tensor.rank : value.tensor.rank) : axis_;
  if (count_ == 0) {
    if (axis < value.tensor.rank) value.tensor.dims[axis] = 0;
    pool.allocate(value);
    return;
  }
  Value whole = buffer_;
  whole.tensor.dims[0] = count_;
  if (axis == 0 && !is_reversed_) {
    value = std::move(whole);
    return;
  }
  // The stacked dim goes to its place.
  Tensor look = whole.tensor;
  if (is_reversed_) {
    look.data += (count_ - 1) * look.strides[0] * size_of(look.dtype);
    look.strides[0] = -look.strides[0];
  }
  Tensor moved = look;
  for (int d = 0; d < axis; ++d) {
    moved.dims[d] = look.dims[d + 1];
    moved.strides[d] = look.strides[d + 1];
  }
  moved.dims[axis] = look.dims[0];
  moved.strides[axis] = look.strides[0];
  value.tensor = moved;
  pool.allocate(value);
  copy_elements(moved, value.tensor);
}

}  // namespace graphopt
