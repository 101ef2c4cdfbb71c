// The one exception of the engine; the bindings turn it into graphopt.errors.ExecutionError.
#pragma once
#include <stdexcept>
#include <string>

namespace graphopt {

class ExecutionError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace graphopt
