// NonMaxSuppression: of every class the boxes with the best scores that do not overlap one taken before.
//
// nms   in: boxes [B, N, 4], scores [B, C, N] (float32, dense), most? (int64), overlap?, score? (float32), one element each
//       out: [chosen, 3] int64: batch, class, box   ints: 1 where boxes are centre, width, height (else two corners)
// The number of results is what `shape` finds; `run` finds them once more. Candidates are sorted once a class; each is held
// against the boxes chosen so far.
#include <algorithm>

#include "ops/norm_rows.h"

namespace graphopt {
namespace {

struct Box {
  float x1, y1, x2, y2;
  float area() const { return (x2 - x1) * (y2 - y1); }
};

struct Problem {
  const float *boxes, *scores;
  int64_t batch, classes, count, most;
  float overlap, score;
  bool has_score, centred;
};

Box box_at(const Problem& p, int64_t batch, int64_t i) {
  const float* b = p.boxes + (batch * p.count + i) * 4;
  if (p.centred) return {b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2};
  return {std::min(b[1], b[3]), std::min(b[0], b[2]), std::max(b[1], b[3]), std::max(b[0], b[2])};
}

bool overlaps(const Box& a, const Box& b, float limit) {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (!(width > 0) || !(height > 0)) return false;
  const float common = width * height, all = a.area() + b.area() - common;
  if (!(common > 0) || !(a.area() > 0) || !(b.area() > 0) || !(all > 0)) return false;
  return common / all > limit;
}

// f(batch, class, box) for all that are chosen. memory: for `count` boxes and as many numbers.
template <class F>
void choose_boxes(const Problem& p, Box* chosen, int64_t* order, const F& f) {
  for (int64_t batch = 0; batch < p.batch; ++batch)
    for (int64_t c = 0; c < p.classes; ++c) {
      const float* scores = p.scores + (batch * p.classes + c) * p.count;
      int64_t candidates = 0, taken = 0;
      for (int64_t i = 0; i < p.count; ++i)
        if (!p.has_score || scores[i] > p.score) order[candidates++] = i;
      std::sort(order, order + candidates, [scores](int64_t a, int64_t b) {
        if (scores[a] > scores[b]) return true;
        return !(scores[b] > scores[a]) && a < b;
      });
      for (int64_t i = 0; i < candidates && taken < p.most; ++i) {
        const Box box = box_at(p, batch, order[i]);
        const auto hit = [&](const Box& other) { return overlaps(box, other, p.overlap); };
        if (std::any_of(chosen, chosen + taken, hit)) continue;
        chosen[taken++] = box;
        f(batch, c, order[i]);
      }
    }
}

Problem problem_of(Tensor* const* in, int32_t n_in, bool centred) {
  const auto has = [&](int i) { return i < n_in && in[i] != nullptr && in[i]->count() > 0; };
  Problem p{};
  p.boxes = in[0]->as<float>();
  p.scores = in[1]->as<float>();
  p.batch = in[0]->dims[0], p.count = in[0]->dims[1], p.classes = in[1]->dims[1];
  p.most = has(2) ? *in[2]->as<int64_t>() : 0;
  p.overlap = has(3) ? *in[3]->as<float>() : 0;
  p.has_score = has(4);
  p.score = p.has_score ? *in[4]->as<float>() : 0;
  p.centred = centred;
  return p;
}

void check(Bind& b) {
  const Tensor &boxes = *b.in[0], &scores = *b.in[1];
  if (boxes.rank != 3 || scores.rank != 3 || boxes.dims[2] != 4 || boxes.dims[0] != scores.dims[0] || boxes.dims[1] != scores.dims[2])
    b.host->fail("nms: boxes of rank %d and scores of rank %d", boxes.rank, scores.rank);
  if (boxes.dtype != DType::kFloat || scores.dtype != DType::kFloat) b.host->fail("nms takes float32");
}

void shape(Bind& b) {
  check(b);
  const Problem p = problem_of(b.in, b.n_in, b.ints[0] != 0);
  int64_t found = 0;
  choose_boxes(p, b.array<Box>(p.count), b.array<int64_t>(p.count), [&](int64_t, int64_t, int64_t) { ++found; });
  b.out[0]->rank = 2;
  b.out[0]->dims[0] = found;
  b.out[0]->dims[1] = 3;
}

struct Params {
  int32_t n_in;
  bool centred;
};

void run(const Instr& instr, Worker& w) {
  const Params& params = instr.as<Params>();
  const Problem p = problem_of(instr.in, params.n_in, params.centred);
  Box* chosen = reinterpret_cast<Box*>(w.scratch);
  int64_t* to = instr.out[0]->as<int64_t>();
  int64_t left = instr.out[0]->dims[0];
  choose_boxes(p, chosen, reinterpret_cast<int64_t*>(chosen + p.count), [&](int64_t batch, int64_t c, int64_t box) {
    if (--left < 0) w.host->fail("nms: more boxes than were found before");
    *to++ = batch, *to++ = c, *to++ = box;
  });
}

Run prepare(Bind& b) {
  check(b);
  b.make<Params>() = {b.n_in, b.ints[0] != 0};
  b.need_scratch(b.in[0]->dims[1] * static_cast<int64_t>(sizeof(Box) + sizeof(int64_t)) + 64);
  return run;
}

const RegisterKernel nms{"nms", prepare, shape};

}  // namespace
}  // namespace graphopt
