#include "engine/python_values.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "engine/arrays.h"
#include "engine/errors.h"

namespace nb = nanobind;

namespace graphopt {
namespace {

nb::object strings_out(const Tensor& t) {
  nb::list all;
  Value dense;
  BufferPool pool(0);
  Tensor look = t;
  if (!t.is_dense()) {
    dense.tensor = t;
    pool.allocate(dense);
    copy_elements(t, dense.tensor);
    look = dense.tensor;
  }
  for (int64_t i = 0; i < look.count(); ++i) {
    const std::string& s = look.as<std::string>()[i];
    all.append(nb::bytes(s.data(), s.size()));
  }
  nb::list dims;
  for (int i = 0; i < t.rank; ++i) dims.append(t.dims[i]);
  return nb::make_tuple(all, dims, static_cast<int>(DType::kString));
}

}  // namespace

Tensor strings_of(nb::tuple given, std::vector<std::string>& strings) {
  Tensor t;
  t.dtype = DType::kString;
  for (nb::handle dim : given[1]) {
    if (t.rank == kMaxRank) fail("rank is above %d", kMaxRank);
    t.dims[t.rank++] = nb::cast<int64_t>(dim);
  }
  t.make_dense();
  for (nb::handle item : given[0]) {
    const auto bytes = nb::cast<nb::bytes>(item);
    strings.emplace_back(bytes.c_str(), bytes.size());
  }
  if (static_cast<int64_t>(strings.size()) != t.count()) fail("%zu strings for %lld elements", strings.size(), static_cast<long long>(t.count()));
  t.data = reinterpret_cast<char*>(strings.data());
  return t;
}

Value value_of(nb::handle given, BufferPool& pool) {
  Value value;
  if (given.is_none()) {
    value.kind = Value::Kind::kEmptyOptional;
    return value;
  }
  if (nb::isinstance<nb::list>(given)) {
    value.kind = Value::Kind::kSequence;
    value.items = std::make_shared<std::vector<Value>>();
    for (nb::handle item : given) value.items->push_back(value_of(item, pool));
    return value;
  }
  const auto parts = nb::cast<nb::tuple>(given);
  value.kind = Value::Kind::kTensor;
  if (parts.size() == 3) {
    std::vector<std::string> strings;
    value.tensor = strings_of(parts, strings);
    pool.allocate(value);
    for (size_t i = 0; i < strings.size(); ++i) value.tensor.as<std::string>()[i] = std::move(strings[i]);
    return value;
  }
  value.tensor = tensor_of(nb::cast<Array>(parts[0]), static_cast<DType>(nb::cast<int>(parts[1])));
  return value;
}

nb::object python_of(const Value& value) {
  switch (value.kind) {
    case Value::Kind::kNone: case Value::Kind::kEmptyOptional: return nb::none();
    case Value::Kind::kSequence: {
      nb::list all;
      for (const Value& item : *value.items) all.append(python_of(item));
      return all;
    }
    case Value::Kind::kTensor: break;
  }
  const Tensor& t = value.tensor;
  if (t.dtype == DType::kString) return strings_out(t);
  // Memory that only this value has goes to Python as it is; a few bytes in a large block do not keep it.
  Buffer* buffer = value.owner.get();
  Owner owner = value.owner;
  Tensor look = t;
  const int64_t bytes = t.count() * size_of(t.dtype);
  if (buffer == nullptr || buffer->references.load() != 2 || !t.is_dense() || bytes * 2 < buffer->bytes - 4096) {
    Value copy;
    BufferPool pool(0);
    copy.tensor = t;
    pool.allocate(copy);
    copy_elements(t, copy.tensor);
    owner = copy.owner;
    look = copy.tensor;
    BufferPool::detach(owner.get());
  } else {
    BufferPool::detach(buffer);
  }
  nb::capsule keeper(new Owner(std::move(owner)), [](void* p) noexcept { delete static_cast<Owner*>(p); });
  return nb::make_tuple(array_of(look, keeper), static_cast<int>(t.dtype));
}

}  // namespace graphopt
