// What binding a segment needs, found once: which registers it touches, where their memory comes from and when it is in
// use, and which symbols everything depends on.
#include <algorithm>
#include <set>
#include <utility>

#include "engine/errors.h"
#include "engine/program.h"

namespace graphopt {
namespace {

using Slots = std::set<int32_t>;

class Needs {
 public:
  Needs(const ProgramInfo& program, const ModuleInfo& module, SegmentInfo& segment)
      : program_(program), m_(module), s_(segment) {}

  void find() {
    std::set<int32_t> registers = touched(), symbols;
    Slots slots;
    for (int32_t n = 0; n < s_.count; ++n) slots.insert(instruction(n).ints.begin(), instruction(n).ints.end());
    for (int32_t r : registers) {
      const RegisterInfo& info = reg(r);
      if (!s_.is_boundary && info.rank < 0 && info.constant < 0) fail("the program is damaged: a register without rank within a segment");
      slots.merge(slots_of(info));
    }
    close(slots, symbols);
    s_.slots.assign(slots.begin(), slots.end());
    s_.symbols.assign(symbols.begin(), symbols.end());
    if (s_.is_boundary) return;
    find_looks(registers);
    find_operands();
  }

 private:
  const RegisterInfo& reg(int32_t r) const { return m_.registers[static_cast<size_t>(r)]; }
  const InstructionInfo& instruction(int32_t n) const { return m_.instructions[static_cast<size_t>(s_.first + n)]; }

  // Dims that an instruction computes itself are not looked at before.
  std::set<int32_t> touched() const {
    std::set<int32_t> registers;
    for (int32_t n = 0; n < s_.count; ++n) {
      const InstructionInfo& i = instruction(n);
      if (!s_.is_boundary && i.kernel == nullptr) fail("the program is damaged: %s within a segment", program_.text(i.name));
      for (const auto* operands : {&i.inputs, &i.outputs})
        for (int32_t r : *operands)
          if (r >= 0 && (!s_.is_boundary || operands == &i.inputs)) {
            registers.insert(r);
            registers.insert(reg(r).root);
          }
    }
    return registers;
  }

  void find_looks(const std::set<int32_t>& registers) {
    std::vector<Look> fixed;
    for (int32_t r : registers) {
      const Look look{r, 0, bits_of(slots_of(reg(r))), {s_.count, -1}};
      (look.symbols == 0 && is_constant(reg(r)) ? fixed : s_.looks).push_back(look);
    }
    s_.n_bound = s_.looks.size();
    s_.looks.insert(s_.looks.end(), fixed.begin(), fixed.end());
    for (size_t i = 0; i < s_.looks.size(); ++i) {
      const auto place = static_cast<int32_t>(i);
      const RegisterInfo& info = reg(s_.looks[i].reg);
      s_.looks[i].root = s_.place_of(info.root);
      if (is_constant(info)) continue;
      (reg(info.root).is_local ? s_.local_looks : s_.imports).push_back(place);
      if (reg(info.root).is_local && s_.looks[i].root == place) s_.locals.push_back(place);
    }
  }

  void find_operands() {
    for (int32_t n = 0; n < s_.count; ++n) {
      const InstructionInfo& i = instruction(n);
      Slots slots(i.ints.begin(), i.ints.end());
      for (const auto* operands : {&i.inputs, &i.outputs})
        for (int32_t r : *operands) {
          const int32_t place = r < 0 ? -1 : s_.place_of(r);
          s_.operands.push_back(place);
          if (place < 0) continue;
          Life& life = s_.looks[static_cast<size_t>(s_.looks[static_cast<size_t>(place)].root)].life;
          life = {std::min(life.first, n), std::max(life.last, n)};
          slots.merge(prepared_slots(reg(r)));
        }
      s_.prepared_by.push_back(bits_of(std::move(slots)));
    }
  }

  static Slots slots_of(const RegisterInfo& info) {
    Slots slots(info.dims.begin(), info.dims.end());
    slots.insert(info.strides.begin(), info.strides.end());
    slots.insert(info.offset);
    return slots;
  }

  // What a kernel may look at when it is prepared: neither where memory begins, unless it is a constant's, nor the
  // stride of a dim that is always 1.
  Slots prepared_slots(const RegisterInfo& info) const {
    Slots slots(info.dims.begin(), info.dims.end());
    for (size_t d = 0; d < info.strides.size(); ++d) {
      const Expression& dim = program_.expressions[static_cast<size_t>(info.dims[d])];
      if (dim.op != Op::kConst || dim.a != 1) slots.insert(info.strides[d]);
    }
    if (is_constant(info)) slots.insert(info.offset);
    return slots;
  }

  bool is_constant(const RegisterInfo& info) const { return info.constant >= 0 || reg(info.root).constant >= 0; }

  // Adds all slots that slots need, and the symbols that those read.
  void close(Slots& slots, std::set<int32_t>& symbols) const {
    std::vector<int32_t> pending(slots.begin(), slots.end());
    while (!pending.empty()) {
      const Expression& e = program_.expressions[static_cast<size_t>(pending.back())];
      pending.pop_back();
      if (e.op == Op::kSymbol) symbols.insert(static_cast<int32_t>(e.a));
      if (e.op == Op::kSymbol || e.op == Op::kConst) continue;
      for (int32_t operand : {static_cast<int32_t>(e.a), e.b})
        if (slots.insert(operand).second) pending.push_back(operand);
    }
  }

  // The segment's symbols that slots depend on.
  uint64_t bits_of(Slots slots) const {
    std::set<int32_t> symbols;
    close(slots, symbols);
    uint64_t bits = 0;
    for (size_t i = 0; i < s_.symbols.size(); ++i)
      if (symbols.count(s_.symbols[i]) != 0) bits |= uint64_t{1} << (i < 63 ? i : 63);
    return bits;
  }

  const ProgramInfo& program_;
  const ModuleInfo& m_;
  SegmentInfo& s_;
};

}  // namespace

int32_t SegmentInfo::place_of(int32_t reg) const {
  const auto is_below = [](const Look& look, int32_t wanted) { return look.reg < wanted; };
  const auto middle = looks.begin() + static_cast<ptrdiff_t>(n_bound);
  auto found = std::lower_bound(looks.begin(), middle, reg, is_below);
  if (found == middle || found->reg != reg) found = std::lower_bound(middle, looks.end(), reg, is_below);
  return static_cast<int32_t>(found - looks.begin());
}

void find_needs(const ProgramInfo& program, const ModuleInfo& module, SegmentInfo& segment) {
  Needs(program, module, segment).find();
}

}  // namespace graphopt
