#include "engine/engine.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <mutex>

#include "engine/arrays.h"
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

  // reference(number, blob, values) -> values; tap(name, iteration, array, element type) or None; targets: None,
  // or for each output memory as (array, element type), or None. An output with a target is returned as None.
  nb::list run(nb::list inputs, nb::object reference, nb::object tap, nb::object targets, int64_t limit_bytes, int64_t limit_iterations) {
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
    std::vector<Tensor> memory;
    if (!targets.is_none())
      for (nb::handle target : nb::cast<nb::list>(targets)) memory.push_back(target.is_none() ? Tensor{} : target_of(nb::cast<nb::tuple>(target)));
    if (!memory.empty() && memory.size() != program_.main().outputs.size()) fail("%zu targets for %zu outputs", memory.size(), program_.main().outputs.size());
    std::unique_ptr<Executor> executor = borrow();
    executor->limit({limit_bytes > 0 ? limit_bytes : limits_.bytes, limit_iterations > 0 ? limit_iterations : limits_.iterations});
    std::vector<Value> results;
    nb::list given;
    try {
      std::vector<Value> values;
      for (nb::handle item : inputs) values.push_back(value_of(item, executor->pool()));
      nb::gil_scoped_release release;
      results = executor->run(std::move(values), callbacks, memory);
    } catch (...) {
      // What a failed run leaves behind is not used again.
      throw;
    }
    for (size_t i = 0; i < results.size(); ++i) {
      try {
        given.append(python_of(results[i]));
      } catch (const ExecutionError& error) {
        fail("output '%s': %s", program_.text(program_.output_names[i]), error.what());
      }
      results[i].clear();
    }
    give_back(std::move(executor));
    return given;
  }

  void profile(bool on) {
    std::lock_guard lock(mutex_);
    profiling_ = on;
    idle_.clear();
  }

  // For each module a list of (kernel, nodes, calls, nanoseconds, bytes), an instruction each, over all runs.
  nb::list times() {
    std::lock_guard lock(mutex_);
    nb::list all;
    for (size_t m = 0; m < program_.modules.size(); ++m) {
      const ModuleInfo& module = program_.modules[m];
      nb::list rows;
      for (size_t i = 0; i < module.instructions.size(); ++i) {
        InstructionTime sum;
        for (const auto& executor : idle_) {
          const InstructionTime& t = executor->times()[m][i];
          sum.calls += t.calls;
          sum.nanoseconds += t.nanoseconds;
          sum.bytes += t.bytes;
        }
        const InstructionInfo& info = module.instructions[i];
        rows.append(nb::make_tuple(program_.text(info.name), program_.text(info.nodes), sum.calls, sum.nanoseconds, sum.bytes));
      }
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

  static Tensor target_of(nb::tuple given) {
    const auto array = nb::cast<nb::ndarray<>>(given[0]);
    if (array.ndim() > kMaxRank) fail("rank %zu is above %d", array.ndim(), kMaxRank);
    Tensor t;
    t.data = static_cast<char*>(array.data());
    t.dtype = static_cast<DType>(nb::cast<int>(given[1]));
    t.rank = static_cast<int32_t>(array.ndim());
    for (int i = 0; i < t.rank; ++i) t.dims[i] = static_cast<int64_t>(array.shape(i));
    t.make_dense();
    return t;
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
  // Memory for constants that are packed already, as writable bytes: on huge pages where there are many.
  m.def(
      "weight_block",
      [](int64_t bytes) {
        auto block = std::make_unique<WeightBlock>();
        block->allocate(bytes);
        Tensor t;
        t.data = block->data();
        t.dtype = DType::kUint8;
        t.rank = 1;
        t.dims[0] = bytes;
        t.strides[0] = 1;
        nb::capsule owner(block.release(), [](void* p) noexcept { delete static_cast<WeightBlock*>(p); });
        return array_of(t, owner);
      },
      nb::arg("bytes"));
  nb::class_<Engine>(m, "Engine")
      .def("__init__",
           [&library](Engine* self, Words words, std::vector<std::string> texts, nb::list blobs, nb::list constants,
                      int threads, int64_t limit_bytes, int64_t limit_iterations) {
             new (self) Engine(library, words, std::move(texts), blobs, constants, threads, limit_bytes, limit_iterations);
           },
           nb::arg("words"), nb::arg("texts"), nb::arg("blobs"), nb::arg("constants"), nb::arg("threads"),
           nb::arg("limit_bytes"), nb::arg("limit_iterations"))
      .def("run", &Engine::run, nb::arg("inputs"), nb::arg("reference").none(), nb::arg("tap").none(),
           nb::arg("targets").none() = nb::none(), nb::arg("limit_bytes") = 0, nb::arg("limit_iterations") = 0)
      .def("profile", &Engine::profile)
      .def("times", &Engine::times)
      .def_prop_ro("packed_bytes", &Engine::packed_bytes)
      .def_prop_ro("arena_bytes", &Engine::arena_bytes);
}

}  // namespace graphopt
