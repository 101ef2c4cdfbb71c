#include "engine/program.h"

#include <cstring>
#include <set>

#include "engine/errors.h"

namespace graphopt {
namespace {

constexpr int64_t kFormat = 1;

struct SpecialName {
  const char* name;
  Special special;
};

constexpr SpecialName kSpecials[] = {
    {"if", Special::kIf}, {"loop", Special::kLoop}, {"scan", Special::kScan}, {"reference", Special::kReference},
    {"tap", Special::kTap}, {"sequence.construct", Special::kSequenceConstruct},
    {"sequence.empty", Special::kSequenceEmpty}, {"sequence.insert", Special::kSequenceInsert},
    {"sequence.erase", Special::kSequenceErase}, {"sequence.at", Special::kSequenceAt},
    {"sequence.length", Special::kSequenceLength}, {"sequence.split", Special::kSequenceSplit},
    {"sequence.concat", Special::kSequenceConcat}, {"optional.make", Special::kOptionalMake},
    {"optional.has", Special::kOptionalHas}, {"optional.get", Special::kOptionalGet}};

// Reads the words one after the other; nothing in a damaged table leads outside of it.
class Reader {
 public:
  Reader(const int64_t* words, int64_t n, const Library& library, ProgramInfo& program, int64_t n_constants)
      : at_(words), end_(words + n), library_(library), program_(program), n_constants_(n_constants) {}

  void program() {
    if (next() != kFormat) fail("the program has another version of the format");
    const int64_t n_symbols = count();
    for (int64_t i = 0; i < n_symbols; ++i) program_.symbol_names.push_back(text());
    const int64_t n_expressions = count();
    for (int64_t i = 0; i < n_expressions; ++i) {
      Expression e{static_cast<Op>(number(0, static_cast<int64_t>(Op::kBroadcast))), next(), 0};
      const int64_t b = next();
      if (e.op == Op::kSymbol) check(e.a, 0, n_symbols - 1);
      else if (e.op != Op::kConst) {
        check(e.a, 0, i - 1);
        check(b, 0, i - 1);
        e.b = static_cast<int32_t>(b);
      }
      program_.expressions.push_back(e);
    }
    for (auto* names : {&program_.input_names, &program_.output_names}) {
      const int64_t n = count();
      for (int64_t i = 0; i < n; ++i) names->push_back(text());
    }
    const int64_t n_modules = count();
    if (n_modules == 0) fail("the program has no module");
    for (int64_t i = 0; i < n_modules; ++i) {
      ModuleInfo made = module(static_cast<int32_t>(i));
      program_.modules.push_back(std::move(made));
    }
    if (at_ != end_) fail("the program has words behind its end");
    if (program_.main().inputs.size() != program_.input_names.size() || program_.main().outputs.size() != program_.output_names.size())
      fail("the program's signature does not fit its main module");
  }

 private:
  int64_t next() {
    if (at_ == end_) fail("the program is cut off");
    return *at_++;
  }
  static void check(int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) fail("the program is damaged: %lld is not in %lld..%lld", static_cast<long long>(value), static_cast<long long>(low), static_cast<long long>(high));
  }
  int64_t number(int64_t low, int64_t high) {
    const int64_t value = next();
    check(value, low, high);
    return value;
  }
  int64_t count() { return number(0, end_ - at_); }
  int32_t text() { return static_cast<int32_t>(number(0, static_cast<int64_t>(program_.texts.size()) - 1)); }
  int32_t slot() { return static_cast<int32_t>(number(0, static_cast<int64_t>(program_.expressions.size()) - 1)); }
  std::vector<int32_t> numbers(int64_t low, int64_t high) {
    std::vector<int32_t> all(static_cast<size_t>(count()));
    for (auto& value : all) value = static_cast<int32_t>(number(low, high));
    return all;
  }

  ModuleInfo module(int32_t index) {
    ModuleInfo m;
    m.name = text();
    const int64_t n = count();
    for (int64_t i = 0; i < n; ++i) m.registers.push_back(reg(i, n));
    for (size_t i = 0; i < m.registers.size(); ++i) {
      RegisterInfo& r = m.registers[i];
      if (r.base >= 0 && m.registers[static_cast<size_t>(r.base)].base >= 0) fail("the program is damaged: a view of a view");
      r.root = r.base >= 0 ? r.base : static_cast<int32_t>(i);
    }
    m.inputs = numbers(0, n - 1);
    m.outputs = numbers(0, n - 1);
    const int64_t n_captures = count();
    for (int64_t i = 0; i < n_captures; ++i) {
      const auto outside = static_cast<int32_t>(number(0, INT32_MAX));
      m.captures.emplace_back(outside, static_cast<int32_t>(number(0, n - 1)));
    }
    const int64_t n_instructions = count();
    for (int64_t i = 0; i < n_instructions; ++i) m.instructions.push_back(instruction(n, index));
    for (const InstructionInfo& i : m.instructions)
      for (int32_t body : i.bodies)
        for (const auto& [outside, inside] : program_.modules[static_cast<size_t>(body)].captures) check(outside, 0, n - 1);
    m.entry = definitions(m);
    const int64_t n_segments = count();
    for (int64_t i = 0; i < n_segments; ++i) m.segments.push_back(segment(m));
    find_makers(m);
    find_handed_on(m);
    const int64_t n_growing = count();
    for (int64_t i = 0; i < n_growing; ++i) {
      const auto grown = static_cast<int32_t>(number(0, n - 1));
      const int32_t rank = m.registers[static_cast<size_t>(grown)].rank;
      const auto axis = static_cast<int32_t>(number(0, rank - 1));
      const int32_t length = slot();
      const auto room = static_cast<int32_t>(number(-1, static_cast<int64_t>(program_.symbol_names.size()) - 1));
      m.growing.push_back({grown, axis, length, room});
    }
    return m;
  }

  RegisterInfo reg(int64_t index, int64_t n) {
    RegisterInfo r;
    r.dtype = static_cast<DType>(number(0, 32));
    r.rank = static_cast<int32_t>(number(-1, kMaxRank));
    for (int i = 0; i < r.rank; ++i) r.dims.push_back(slot());
    r.has_strides = number(0, 1) != 0;
    for (int i = 0; r.has_strides && i < r.rank; ++i) r.strides.push_back(slot());
    r.base = static_cast<int32_t>(number(-1, n - 1));
    if (r.base == index) fail("the program is damaged: a register looks at itself");
    r.offset = slot();
    r.constant = static_cast<int32_t>(number(-1, n_constants_ - 1));
    r.is_local = number(0, 1) != 0;
    r.name = text();
    return r;
  }

  InstructionInfo instruction(int64_t n_registers, int32_t module_index) {
    InstructionInfo i;
    i.name = text();
    i.nodes = text();
    i.special = Special::kNone;
    const std::string& name = program_.texts[static_cast<size_t>(i.name)];
    for (const SpecialName& s : kSpecials)
      if (name == s.name) i.special = s.special;
    i.kernel = i.special == Special::kNone ? library_.kernel(name) : nullptr;
    if (i.special == Special::kNone && i.kernel == nullptr) fail("there is no kernel %s", name.c_str());
    i.inputs = numbers(-1, n_registers - 1);
    i.outputs = numbers(-1, n_registers - 1);
    i.ints = numbers(0, static_cast<int64_t>(program_.expressions.size()) - 1);
    i.floats.resize(static_cast<size_t>(count()));
    for (double& f : i.floats) {
      const int64_t bits = next();
      std::memcpy(&f, &bits, sizeof f);
    }
    i.blob = static_cast<int32_t>(number(0, static_cast<int64_t>(program_.blobs.size()) - 1));
    i.bodies = numbers(0, module_index - 1);
    return i;
  }

  std::vector<Definition> definitions(const ModuleInfo& m) {
    std::vector<Definition> all(static_cast<size_t>(count()));
    for (Definition& d : all) {
      d.symbol = static_cast<int32_t>(number(0, static_cast<int64_t>(program_.symbol_names.size()) - 1));
      d.reg = static_cast<int32_t>(number(0, static_cast<int64_t>(m.registers.size()) - 1));
      d.source = static_cast<int32_t>(number(0, 1));
      d.index = static_cast<int32_t>(number(0, INT32_MAX));
      d.weight = slot();
      d.rest = slot();
    }
    return all;
  }

  SegmentInfo segment(const ModuleInfo& m) {
    SegmentInfo s;
    const auto n = static_cast<int64_t>(m.instructions.size());
    s.first = static_cast<int32_t>(number(0, n));
    s.count = static_cast<int32_t>(number(0, n - s.first));
    s.is_boundary = number(0, 1) != 0;
    if (s.is_boundary) check(s.count, 1, 1);
    s.definitions = definitions(m);
    s.dead = numbers(0, static_cast<int64_t>(m.registers.size()) - 1);
    s.number = program_.n_segments++;
    find_needs(program_, m, s);
    return s;
  }

  // Memory that lives beyond a segment is made by the first one to write it; inputs are there before.
  void find_makers(ModuleInfo& m) const {
    std::vector<bool> is_made(m.registers.size(), false);
    for (int32_t r : m.inputs) is_made[static_cast<size_t>(r)] = true;
    for (const auto& [outside, inside] : m.captures) is_made[static_cast<size_t>(inside)] = true;
    for (SegmentInfo& s : m.segments)
      for (int32_t i = s.first; i < s.first + s.count; ++i)
        for (int32_t r : m.instructions[static_cast<size_t>(i)].outputs) {
          if (r < 0) continue;
          const int32_t root = m.registers[static_cast<size_t>(r)].root;
          const RegisterInfo& info = m.registers[static_cast<size_t>(root)];
          if (!s.is_boundary && !is_made[static_cast<size_t>(root)] && !info.is_local && info.constant < 0)
            s.makes.push_back(s.place_of(root));
          is_made[static_cast<size_t>(root)] = true;
        }
  }

  static void find_handed_on(ModuleInfo& m) {
    std::set<int32_t> all(m.inputs.begin(), m.inputs.end());
    all.insert(m.outputs.begin(), m.outputs.end());
    for (const auto& [outside, inside] : m.captures) all.erase(inside);
    m.handed_on.assign(all.begin(), all.end());
  }

  const int64_t* at_;
  const int64_t* end_;
  const Library& library_;
  ProgramInfo& program_;
  int64_t n_constants_;
};

}  // namespace

ProgramInfo read_program(const int64_t* words, int64_t n_words, std::vector<std::string> texts,
                         std::vector<std::string> blobs, const Library& library, int64_t n_constants) {
  ProgramInfo program;
  program.texts = std::move(texts);
  program.blobs = std::move(blobs);
  Reader(words, n_words, library, program, n_constants).program();
  return program;
}

}  // namespace graphopt
