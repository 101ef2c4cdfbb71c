#include "engine/engine.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <mutex>

#include "engine/constants.h"
#include "engine/errors.h"
#include "engine/executor.h"
#include "engine/python_values.h"

namespace nb = nanobind;

namespace graphopt {
namespace {

using Words = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig>;

class Engine {
 public:
  Engine(const Library& library, Words words, std::vector<std::string> texts, nb::list blobs, nb::list constants,
         int threads, int64_t limit_bytes, int64_t limit_iterations)
      : constants_(constants, library), threads_(threads), limits_{limit_bytes, limit_iterations} {
    std::vector<std::string> copied;
    for (nb::handle blob : blobs) {
      const auto bytes = nb::cast<nb::bytes>(blob);
      copied.emplace_back(bytes.c_str(), bytes.size());
    }
    program_ = read_program(words.data(), static_cast<int64_t>(words.shape(0)), std::move(texts), std::move(copied),
                            library, static_cast<int64_t>(constants_.tensors().size()));
  }

  // reference(blob, values) -> values; tap(name, iteration, array) or None.
  nb::list run(nb::list inputs, nb::object reference, nb::object tap) {
    Callbacks callbacks;
    callbacks.reference = [&](const InstructionInfo& info, const std::vector<Value*>& in, const std::vector<Value*>& out, BufferPool& pool) {
      nb::gil_scoped_acquire gil;
      call_reference(reference, info, in, out, pool);
    };
    if (!tap.is_none())
      callbacks.tap = [&](const char* name, const std::vector<int64_t>& iteration, const Value& value) {
        nb::gil_scoped_acquire gil;
        nb::tuple shown = value.is_tensor() && value.tensor.dtype != DType::kString
                              ? nb::make_tuple(array_of(value.tensor, nb::none()), static_cast<int>(value.tensor.dtype))
                              : nb::make_tuple(python_of(value), 0);
        tap(name, iteration, shown[0], shown[1]);
      };
    std::unique_ptr<Executor> executor = borrow();
    std::vector<Value> results;
    nb::list given;
    try {
      std::vector<Value> values;
      for (nb::handle item : inputs) values.push_back(value_of(item, executor->pool()));
      nb::gil_scoped_release release;
      results = executor->run(std::move(values), callbacks);
    } catch (...) {
      // What a failed run leaves behind is not used again.
      throw;
    }
    for (Value& value : results) {
      given.append(python_of(value));
      value.clear();
    }
    give_back(std::move(executor));
    return given;
  }

  void profile(bool on) {
    std::lock_guard lock(mutex_);
    profiling_ = on;
    idle_.clear();
  }

  // For each module and instruction: calls, nanoseconds, bytes.
  nb::list times() {
    std::lock_guard lock(mutex_);
    nb::list all;
    if (idle_.empty()) return all;
    for (const auto& module : idle_.back()->times()) {
      nb::list rows;
      for (const InstructionTime& t : module) rows.append(nb::make_tuple(t.calls, t.nanoseconds, t.bytes));
      all.append(rows);
    }
    return all;
  }

  int64_t packed_bytes() const { return constants_.packed_bytes(); }
  int64_t arena_bytes() {
    std::lock_guard lock(mutex_);
    int64_t sum = 0;
    for (const auto& executor : idle_) sum += executor->arena_bytes();
    return sum;
  }

 private:
  void call_reference(nb::object reference, const InstructionInfo& info, const std::vector<Value*>& in,
                      const std::vector<Value*>& out, BufferPool& pool) {
    const std::string& blob = program_.blobs[static_cast<size_t>(info.blob)];
    nb::list given;
    for (Value* value : in) given.append(python_of(*value));
    nb::object results = reference(info.blob, nb::bytes(blob.data(), blob.size()), given);
    size_t i = 0;
    for (nb::handle result : results) {
      if (i == out.size()) break;
      Value value = value_of(result, pool);
      own(value, pool);
      *out[i++] = std::move(value);
    }
    if (i != out.size()) fail("node '%s': %zu results of %zu", program_.text(info.nodes), i, out.size());
  }

  // Copies memory of Python, which may go.
  static void own(Value& value, BufferPool& pool) {
    if (value.kind == Value::Kind::kSequence)
      for (Value& item : *value.items) own(item, pool);
    if (!value.is_tensor() || value.owner.get() != nullptr) return;
    Value made;
    made.tensor = value.tensor;
    pool.allocate(made);
    copy_elements(value.tensor, made.tensor);
    value = std::move(made);
  }

  std::unique_ptr<Executor> borrow() {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto executor = std::move(idle_.back());
      idle_.pop_back();
      return executor;
    }
    auto executor = std::make_unique<Executor>(program_, constants_.tensors(), threads_, limits_);
    executor->profile(profiling_);
    return executor;
  }

  void give_back(std::unique_ptr<Executor> executor) {
    std::lock_guard lock(mutex_);
    idle_.push_back(std::move(executor));
  }

  ConstantStore constants_;
  ProgramInfo program_;
  int threads_;
  Limits limits_;
  std::mutex mutex_;
  bool profiling_ = false;
  std::vector<std::unique_ptr<Executor>> idle_;
};

}  // namespace

void bind_engine(nb::module_& m, const Library& library) {
  nb::class_<Engine>(m, "Engine")
      .def("__init__",
           [&library](Engine* self, Words words, std::vector<std::string> texts, nb::list blobs, nb::list constants,
                      int threads, int64_t limit_bytes, int64_t limit_iterations) {
             new (self) Engine(library, words, std::move(texts), blobs, constants, threads, limit_bytes, limit_iterations);
           },
           nb::arg("words"), nb::arg("texts"), nb::arg("blobs"), nb::arg("constants"), nb::arg("threads"),
           nb::arg("limit_bytes"), nb::arg("limit_iterations"))
      .def("run", &Engine::run, nb::arg("inputs"), nb::arg("reference").none(), nb::arg("tap").none())
      .def("profile", &Engine::profile)
      .def("times", &Engine::times)
      .def_prop_ro("packed_bytes", &Engine::packed_bytes)
      .def_prop_ro("arena_bytes", &Engine::arena_bytes);
}

}  // namespace graphopt
