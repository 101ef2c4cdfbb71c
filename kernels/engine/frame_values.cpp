// Values of a frame: what they tell of sizes, and how registers look at them.
#include <algorithm>
#include <utility>

#include "engine/errors.h"
#include "engine/executor.h"

namespace graphopt {
namespace {

int64_t integer_at(const Tensor& t, int64_t i) {
  int64_t at = 0, rest = i;
  for (int d = t.rank - 1; d >= 0; --d) {
    at += rest % t.dims[d] * t.strides[d];
    rest /= t.dims[d];
  }
  switch (t.dtype) {
    case DType::kInt64: case DType::kUint64: return t.as<int64_t>()[at];
    case DType::kInt32: return t.as<int32_t>()[at];
    case DType::kUint32: return t.as<uint32_t>()[at];
    case DType::kInt16: return t.as<int16_t>()[at];
    case DType::kUint16: return t.as<uint16_t>()[at];
    case DType::kInt8: return t.as<int8_t>()[at];
    case DType::kUint8: case DType::kBool: return t.as<uint8_t>()[at];
    case DType::kFloat: return static_cast<int64_t>(t.as<float>()[at]);
    case DType::kDouble: return static_cast<int64_t>(t.as<double>()[at]);
    default: fail("a size is %s", described(t).c_str());
  }
}

}  // namespace

void Executor::define(const Frame& frame, const std::vector<Definition>& definitions) {
  for (const Definition& d : definitions) {
    const RegisterInfo& info = frame.module->registers[static_cast<size_t>(d.reg)];
    const Value& value = frame.values[static_cast<size_t>(info.root)];
    if (!value.is_tensor()) continue;
    int64_t found = 0;
    if (d.source == 0) {
      if (d.index >= value.tensor.rank) fail("value '%s' has rank %d", name_of(frame, d.reg), value.tensor.rank);
      found = value.tensor.dims[d.index];
    } else {
      if (d.index >= value.tensor.count()) fail("value '%s' has no element %d", name_of(frame, d.reg), d.index);
      found = integer_at(value.tensor, d.index);
    }
    const int64_t weight = sizes_.compute(d.weight);
    sizes_.define(d.symbol, weight == 0 ? 0 : (found - sizes_.compute(d.rest)) / weight);
  }
}

void Executor::check_dims(const Frame& frame, int32_t reg) const {
  const RegisterInfo& info = frame.module->registers[static_cast<size_t>(reg)];
  const Value& value = frame.values[static_cast<size_t>(reg)];
  if (!value.is_tensor() || info.rank < 0) return;
  if (value.tensor.rank != info.rank) fail("value '%s' has rank %d, wanted %d", name_of(frame, reg), value.tensor.rank, info.rank);
  for (int i = 0; i < info.rank; ++i) {
    const int64_t wanted = sizes_.compute(info.dims[static_cast<size_t>(i)]);
    if (value.tensor.dims[i] != wanted)
      fail("value '%s': dim %d is %lld, wanted %lld", name_of(frame, reg), i, static_cast<long long>(value.tensor.dims[i]), static_cast<long long>(wanted));
  }
}

// By doubling; but not beyond what the last iteration needs if each adds as much as this one, and all of that at once
// where it is little.
static int64_t room_for(const Frame& frame, const Growing& growing, const Value& value, int64_t needed) {
  constexpr int64_t kLittle = int64_t{1} << 20;  // bytes; what is not written is not touched
  const int64_t doubled = std::max(needed, std::max<int64_t>(16, value.room * 2));
  if (frame.iterations_left == 0) return doubled;
  Tensor row = value.tensor;
  const int64_t step = std::max<int64_t>(0, needed - row.dims[growing.axis]);
  row.dims[growing.axis] = 1;
  const int64_t last = needed + times(frame.iterations_left - 1, step);
  return times(last, times(row.count(), size_of(row.dtype))) <= kLittle ? last : std::min(doubled, last);
}

void Executor::make_room(Frame& frame, const Growing& growing) {
  Value& value = frame.values[static_cast<size_t>(growing.reg)];
  if (!value.is_tensor()) fail("value '%s' is no tensor", name_of(frame, growing.reg));
  const int64_t needed = sizes_.compute(growing.length);
  if (value.room == 0 || needed > value.room) {
    Tensor grown = value.tensor;
    int64_t room = room_for(frame, growing, value, needed);
    grown.dims[growing.axis] = room;
    Owner owner = buffers_.take(grown.dtype, checked_count(grown));
    const int64_t row = grown.product(growing.axis + 1, grown.rank) * size_of(grown.dtype);
    if (growing.room < 0 && grown.dtype != DType::kString && row > 0) room = owner.get()->bytes / row;
    grown.make_dense();
    grown.dims[growing.axis] = value.tensor.dims[growing.axis];
    grown.data = owner.get()->data;
    copy_elements(value.tensor, grown);
    value.tensor = grown;
    value.owner = std::move(owner);
    value.room = room;
  }
  if (growing.room >= 0) sizes_.define(growing.room, value.room);
}

// The value of a register: a constant and a view have no place of their own in the frame.
Value Executor::value_of(const Frame& frame, int32_t reg) const {
  if (reg < 0) return {};
  const RegisterInfo& info = frame.module->registers[static_cast<size_t>(reg)];
  const RegisterInfo& root = frame.module->registers[static_cast<size_t>(info.root)];
  const int32_t constant = info.constant >= 0 ? info.constant : root.constant;
  if (constant < 0 && info.root == reg) return frame.values[static_cast<size_t>(reg)];
  Value value;
  value.kind = Value::Kind::kTensor;
  Tensor& t = value.tensor;
  if (constant >= 0 && info.root == reg) {
    t = constants_[static_cast<size_t>(constant)];
    return value;
  }
  const char* data = constant >= 0 ? constants_[static_cast<size_t>(constant)].data : frame.values[static_cast<size_t>(info.root)].tensor.data;
  if (constant < 0) {
    value.owner = frame.values[static_cast<size_t>(info.root)].owner;
    value.room = frame.values[static_cast<size_t>(info.root)].room;
  }
  t.dtype = info.dtype;
  t.rank = info.rank;
  for (int d = 0; d < t.rank; ++d) t.dims[d] = sizes_.compute(info.dims[static_cast<size_t>(d)]);
  t.make_dense();
  if (info.has_strides)
    for (int d = 0; d < t.rank; ++d) t.strides[d] = sizes_.compute(info.strides[static_cast<size_t>(d)]);
  t.data = const_cast<char*>(data) + sizes_.compute(info.offset) * size_of(t.dtype);
  return value;
}

}  // namespace graphopt
