// Sequences and optionals: values that hold values.
#include <cstring>

#include "engine/errors.h"
#include "engine/executor.h"

namespace graphopt {
namespace {

using Items = std::vector<Value>;

int64_t index_in(const Value& position, int64_t size, int64_t most) {
  const Tensor& t = position.tensor;
  if (!position.is_tensor() || t.count() != 1) fail("a position is one number");
  int64_t i = t.dtype == DType::kInt32 ? *t.as<int32_t>() : *t.as<int64_t>();
  if (i < -size || i > most) fail("position %lld in a sequence of %lld", static_cast<long long>(i), static_cast<long long>(size));
  return i < 0 ? i + size : i;
}

const Items& items_of(const Value& value) {
  if (value.kind != Value::Kind::kSequence) fail("the value is no sequence");
  return *value.items;
}

Value sequence(Items items) {
  Value value;
  value.kind = Value::Kind::kSequence;
  value.items = std::make_shared<Items>(std::move(items));
  return value;
}

int normal(int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) fail("axis %lld of a tensor of rank %d", static_cast<long long>(axis), rank);
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

// A part of a tensor along an axis, made dense; without the axis where `drop`.
Value part(const Tensor& whole, int axis, int64_t begin, int64_t size, bool drop, BufferPool& pool) {
  Tensor look = whole;
  look.data += begin * look.strides[axis] * size_of(look.dtype);
  look.dims[axis] = size;
  Value made;
  made.tensor = look;
  pool.allocate(made);
  copy_elements(look, made.tensor);
  if (drop) {
    for (int d = axis; d + 1 < look.rank; ++d) made.tensor.dims[d] = made.tensor.dims[d + 1];
    --made.tensor.rank;
    made.tensor.make_dense();
  }
  return made;
}

Value split(const Value& input, const Value* sizes, int64_t axis_given, bool keeps, BufferPool& pool) {
  const Tensor& whole = input.tensor;
  const int axis = normal(axis_given, whole.rank);
  const int64_t n = whole.dims[axis];
  std::vector<int64_t> parts;
  if (sizes == nullptr) {
    parts.assign(static_cast<size_t>(n), 1);
  } else {
    const Tensor& t = sizes->tensor;
    const auto at = [&](int64_t i) { return t.dtype == DType::kInt32 ? int64_t{t.as<int32_t>()[i]} : t.as<int64_t>()[i]; };
    if (t.rank == 0) {
      const int64_t step = at(0);
      if (step <= 0) fail("parts of %lld", static_cast<long long>(step));
      for (int64_t begin = 0; begin < n; begin += step) parts.push_back(std::min(step, n - begin));
    } else {
      int64_t sum = 0;
      for (int64_t i = 0; i < t.count(); ++i) {
        if (at(i) < 0) fail("a part of %lld", static_cast<long long>(at(i)));
        parts.push_back(at(i));
        sum += at(i);
      }
      if (sum != n) fail("parts of %lld in all, dim %lld", static_cast<long long>(sum), static_cast<long long>(n));
    }
  }
  Items items;
  int64_t begin = 0;
  for (int64_t size : parts) {
    items.push_back(part(whole, axis, begin, size, sizes == nullptr && !keeps, pool));
    begin += size;
  }
  return sequence(std::move(items));
}

Value concat(const Items& items, int64_t axis_given, bool is_new, BufferPool& pool) {
  if (items.empty()) fail("the sequence is empty");
  const Tensor& first = items[0].tensor;
  const int rank = first.rank + (is_new ? 1 : 0);
  if (rank > kMaxRank) fail("rank %d", rank);
  const int axis = normal(axis_given, rank);
  Value made;
  Tensor& t = made.tensor;
  t.dtype = first.dtype;
  t.rank = rank;
  for (int d = 0, from = 0; d < rank; ++d) t.dims[d] = is_new && d == axis ? 0 : first.dims[from++];
  t.dims[axis] = 0;
  for (const Value& item : items) {
    if (!item.is_tensor() || item.tensor.rank != first.rank) fail("tensors of rank %d and %d are joined", first.rank, item.tensor.rank);
    for (int d = 0; d < first.rank; ++d)
      if ((is_new || d != axis) && item.tensor.dims[d] != first.dims[d])
        fail("dim %d is %lld and %lld", d, static_cast<long long>(first.dims[d]), static_cast<long long>(item.tensor.dims[d]));
    t.dims[axis] += is_new ? 1 : item.tensor.dims[axis];
  }
  pool.allocate(made);
  int64_t begin = 0;
  for (const Value& item : items) {
    Tensor to = made.tensor;
    to.data += begin * to.strides[axis] * size_of(to.dtype);
    if (is_new) {
      for (int d = axis; d + 1 < rank; ++d) {
        to.dims[d] = to.dims[d + 1];
        to.strides[d] = to.strides[d + 1];
      }
      --to.rank;
      ++begin;
    } else {
      to.dims[axis] = item.tensor.dims[axis];
      begin += item.tensor.dims[axis];
    }
    copy_elements(item.tensor, to);
  }
  return made;
}

}  // namespace

void Executor::run_sequence(Frame& frame, const InstructionInfo& info) {
  std::vector<Value> in;
  for (int32_t reg : info.inputs) in.push_back(value_of(frame, reg));
  const auto integer = [&](size_t i) { return sizes_.compute(info.ints[i]); };
  Value& out = frame.values[static_cast<size_t>(info.outputs[0])];
  switch (info.special) {
    case Special::kSequenceConstruct: out = sequence(Items(in.begin(), in.end())); break;
    case Special::kSequenceEmpty: out = sequence({}); break;
    case Special::kSequenceInsert: {
      Items items = items_of(in[0]);
      const auto size = static_cast<int64_t>(items.size());
      const int64_t at = in.size() > 2 && in[2].is_tensor() ? index_in(in[2], size, size) : size;
      items.insert(items.begin() + at, in[1]);
      out = sequence(std::move(items));
      break;
    }
    case Special::kSequenceErase: {
      Items items = items_of(in[0]);
      const auto size = static_cast<int64_t>(items.size());
      if (size == 0) fail("the sequence is empty");
      const int64_t at = in.size() > 1 && in[1].is_tensor() ? index_in(in[1], size, size - 1) : size - 1;
      items.erase(items.begin() + at);
      out = sequence(std::move(items));
      break;
    }
    case Special::kSequenceAt: {
      const Items& items = items_of(in[0]);
      const auto size = static_cast<int64_t>(items.size());
      out = items.at(static_cast<size_t>(index_in(in[1], size, size - 1)));
      break;
    }
    case Special::kSequenceLength: out = scalar(DType::kInt64, static_cast<int64_t>(items_of(in[0]).size())); break;
    case Special::kSequenceSplit:
      out = split(in[0], in.size() > 1 && in[1].is_tensor() ? &in[1] : nullptr, integer(0), integer(1) != 0, buffers_);
      break;
    case Special::kSequenceConcat: out = concat(items_of(in[0]), integer(0), integer(1) != 0, buffers_); break;
    case Special::kOptionalMake:
      if (in.empty()) {
        out.clear();
        out.kind = Value::Kind::kEmptyOptional;
      } else {
        out = in[0];
      }
      break;
    case Special::kOptionalHas: out = scalar(DType::kBool, !in.empty() && in[0].kind != Value::Kind::kEmptyOptional && in[0].kind != Value::Kind::kNone); break;
    case Special::kOptionalGet:
      if (in[0].kind == Value::Kind::kEmptyOptional || in[0].kind == Value::Kind::kNone) fail("the optional is empty");
      out = in[0];
      break;
    default: fail("operator %s has no implementation", program_.text(info.name));
  }
}

}  // namespace graphopt
