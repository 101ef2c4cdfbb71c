// The Python face of the engine.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <filesystem>
#include <memory>

#include "engine/direct.h"
#include "engine/engine.h"
#include "engine/errors.h"
#include "engine/library.h"

namespace nb = nanobind;

namespace graphopt {
namespace {

// The best library that this CPU runs and that was built. GRAPHOPT_ISA names another one, for tests.
const Library& library_of(const std::string& folder) {
  static std::unique_ptr<Library> chosen;
  if (!chosen) {
    const char* wanted = std::getenv("GRAPHOPT_ISA");
    for (const std::string& isa : Library::runnable()) {
      if (wanted != nullptr && isa != wanted) continue;
      if (!std::filesystem::exists(folder + "/kernels_" + isa + ".so")) continue;
      chosen = std::make_unique<Library>(folder, isa);
      break;
    }
    if (!chosen) fail("there is no kernel library for this CPU in %s", folder.c_str());
  }
  return *chosen;
}

}  // namespace
}  // namespace graphopt

NB_MODULE(_engine, m) {
  using namespace graphopt;
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const ExecutionError& error) {
      nb::object type = nb::module_::import_("graphopt.errors").attr("ExecutionError");
      PyErr_SetString(type.ptr(), error.what());
    }
  });
  const auto file = nb::cast<std::string>(m.attr("__file__"));
  const Library& library = library_of(std::filesystem::path(file).parent_path().string());
  bind_direct(m, library);
  bind_engine(m, library);
}
