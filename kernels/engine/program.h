// A program as the engine holds it: what graphopt.lowering wrote, read once.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/abi.h"
#include "engine/library.h"
#include "engine/placement.h"

namespace graphopt {

enum class Op : int32_t { kConst, kSymbol, kAdd, kMul, kFloorDiv, kMin, kMax, kBroadcast };

// One operation on integers; operands are slots that come before it (or a number, or a symbol).
struct Expression {
  Op op;
  int64_t a;
  int32_t b;
};

// The values of symbols and slots of one run.
class Sizes {
 public:
  explicit Sizes(const std::vector<Expression>& expressions) : expressions_(&expressions) {}
  void set_symbols(size_t n) { symbols_.assign(n, 0); values_.assign(expressions_->size(), 0); }
  int64_t symbol(int i) const { return symbols_[i]; }
  void define(int i, int64_t value) { symbols_[i] = value; }
  // Fills the slots, which stand in order; raises ExecutionError on a division by zero or dims that do not broadcast.
  void evaluate(const std::vector<int32_t>& slots);
  int64_t operator[](int slot) const { return values_[slot]; }
  // One slot with all below it.
  int64_t compute(int slot) const {
    const Expression& e = (*expressions_)[static_cast<size_t>(slot)];
    if (e.op == Op::kConst) return e.a;
    if (e.op == Op::kSymbol) return symbols_[static_cast<size_t>(e.a)];
    return apply(e, compute(static_cast<int>(e.a)), compute(e.b));
  }

 private:
  int64_t apply(const Expression& e, int64_t a, int64_t b) const;

  const std::vector<Expression>* expressions_;
  std::vector<int64_t> symbols_, values_;
};

struct RegisterInfo {
  DType dtype;
  int32_t rank;  // -1: not known
  std::vector<int32_t> dims, strides;
  bool has_strides;
  int32_t base;  // -1: memory of its own
  int32_t root;  // itself, or the register whose memory it looks at
  int32_t offset;
  int32_t constant;  // -1: none
  bool is_local;
  int32_t name;
};

// Operators that the engine runs itself.
enum class Special : int32_t {
  kNone, kIf, kLoop, kScan, kReference, kTap,
  kSequenceConstruct, kSequenceEmpty, kSequenceInsert, kSequenceErase, kSequenceAt, kSequenceLength,
  kSequenceSplit, kSequenceConcat, kOptionalMake, kOptionalHas, kOptionalGet,
};

struct InstructionInfo {
  const Kernel* kernel;  // null for operators of the engine
  Special special;
  int32_t name, nodes;  // texts
  std::vector<int32_t> inputs, outputs, ints, bodies;
  std::vector<double> floats;
  int32_t blob;
};

struct Definition {
  int32_t symbol, reg, source, index, weight, rest;
};

// A register that a segment's instructions touch. Places are among these.
struct Look {
  int32_t reg;
  int32_t root;  // the place of the register whose memory it looks at
  // Which of the segment's symbols its dims, strides and offset depend on: bit i; the last bit: any from the 63rd on.
  uint64_t symbols;
  Life life;  // of what it looks at, for a root
};

struct SegmentInfo {
  int32_t first, count;
  bool is_boundary;
  std::vector<Definition> definitions;
  std::vector<int32_t> dead;
  // For segments that are bound:
  std::vector<int32_t> slots;      // all that its sizes need, in order
  std::vector<int32_t> symbols;    // all that those read
  std::vector<Look> looks;         // those that a plan binds, then looks at constants that no symbol moves
  size_t n_bound = 0;              // how many of them a plan binds
  std::vector<int32_t> operands;   // places of all instructions' inputs and outputs, one after the other; -1: absent
  std::vector<int32_t> locals;     // places of memory that lives within it
  std::vector<int32_t> local_looks;  // places of all looks at it
  std::vector<int32_t> imports;    // places of looks at values of the frame
  std::vector<int32_t> makes;      // places of values of the frame that it is the first to write
  // What each instruction's preparation depends on, in bits as those of a look: an offset is none of it.
  std::vector<uint64_t> prepared_by;
  int32_t number = 0;              // among all segments of the program

  int32_t place_of(int32_t reg) const;
};

// An input that a loop carries and its body appends to in place.
struct Growing {
  int32_t reg, axis;
  int32_t length;  // slot: what it must have room for along the axis
  int32_t room;    // symbol: what it has room for; -1: all dims before the axis are 1
};

struct ModuleInfo {
  int32_t name;
  std::vector<RegisterInfo> registers;
  std::vector<int32_t> inputs, outputs;
  std::vector<std::pair<int32_t, int32_t>> captures;
  std::vector<InstructionInfo> instructions;
  std::vector<Definition> entry;
  std::vector<SegmentInfo> segments;
  std::vector<Growing> growing;
  std::vector<int32_t> handed_on;  // inputs and outputs that are no captures: a loop takes them on after each iteration
};

struct ProgramInfo {
  std::vector<std::string> texts, blobs;
  std::vector<int32_t> symbol_names;
  std::vector<Expression> expressions;
  std::vector<int32_t> input_names, output_names;
  std::vector<ModuleInfo> modules;  // the main module last
  int32_t n_segments = 0;

  const ModuleInfo& main() const { return modules.back(); }
  const char* text(int32_t i) const { return texts[static_cast<size_t>(i)].c_str(); }
};

// Fills in what binding a segment needs. Raises ExecutionError where the program is damaged.
void find_needs(const ProgramInfo& program, const ModuleInfo& module, SegmentInfo& segment);

// Reads the tables. Raises ExecutionError where they are damaged or name a kernel that the library does not have.
ProgramInfo read_program(const int64_t* words, int64_t n_words, std::vector<std::string> texts,
                         std::vector<std::string> blobs, const Library& library, int64_t n_constants);

}  // namespace graphopt
