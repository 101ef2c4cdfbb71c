// string_concat (a, b)                      broadcast; one string an element
// label_encoder (x, keys, values, default)  keys ascending, NaN last; a binary search an element
//
// Any strides.
#include <string>

#include "ops/copy_elements.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Join {
  Odometer<3> at;  // a, b, output
  int64_t n;
};

void run_string_concat(const Instr& i, Worker& w) {
  const auto& p = i.as<Join>();
  w.parallel(p.n, 512, [&](int64_t begin, int64_t end, Worker&) {
    Odometer<3> at = p.at;
    at.seek(begin);
    for (int64_t k = begin; k < end; ++k, at.next()) {
      std::string& joined = i.out[0]->as<std::string>()[at.at[2]];
      joined = i.in[0]->as<std::string>()[at.at[0]];
      joined += i.in[1]->as<std::string>()[at.at[1]];
    }
  });
}

// The dim of an operand that stands at dim d of the output; 1 before its first.
int64_t dim_at(const Tensor& t, int rank, int d) { return d < rank - t.rank ? 1 : t.dims[d - (rank - t.rank)]; }

void shape_string_concat(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.in[1];
  Tensor& out = *b.out[0];
  out.rank = x.rank > y.rank ? x.rank : y.rank;
  for (int d = 0; d < out.rank; ++d) {
    const int64_t m = dim_at(x, out.rank, d), n = dim_at(y, out.rank, d);
    if (m != n && m != 1 && n != 1) b.host->fail("%s and %s do not broadcast", shape_text(x).text, shape_text(y).text);
    out.dims[d] = m == 1 ? n : m;
  }
}

Run prepare_string_concat(Bind& b) {
  const Tensor& out = *b.out[0];
  auto& p = b.make<Join>();
  for (int k = 0; k < 2; ++k)
    if (b.in[k]->dtype != DType::kString || b.in[k]->rank > out.rank)
      b.host->fail("strings of shape %s are joined to %s", shape_text(*b.in[k]).text, shape_text(out).text);
  for (int d = 0; d < out.rank; ++d) {
    int64_t steps[3] = {0, 0, out.strides[d]};
    for (int k = 0; k < 2; ++k) {
      const Tensor& x = *b.in[k];
      const int64_t dim = dim_at(x, out.rank, d);
      if (dim != out.dims[d] && dim != 1)
        b.host->fail("%s does not broadcast to %s", shape_text(x).text, shape_text(out).text);
      steps[k] = dim == 1 ? 0 : x.strides[d - (out.rank - x.rank)];
    }
    p.at.add(out.dims[d], steps);
  }
  p.n = p.at.count();
  return run_string_concat;
}

struct Encoder {
  Odometer<2> at;
  int64_t n;
};

// NaN is the greatest and equal to itself.
template <class K> bool before(const K& x, const K& y) {
  if constexpr (std::is_floating_point_v<K>) return x < y || (x == x && y != y);
  else return x < y;
}

template <class K, class V> void run_label_encoder(const Instr& i, Worker& w) {
  const auto& p = i.as<Encoder>();
  const K* keys = i.in[1]->as<K>();
  const V* values = i.in[2]->as<V>();
  const int64_t n_keys = i.in[1]->count();
  w.parallel(p.n, 256, [&](int64_t begin, int64_t end, Worker&) {
    Odometer<2> at = p.at;
    at.seek(begin);
    for (int64_t k = begin; k < end; ++k, at.next()) {
      const K& x = i.in[0]->as<K>()[at.at[0]];
      int64_t low = 0, high = n_keys;
      while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (before(keys[middle], x)) low = middle + 1;
        else high = middle;
      }
      const bool found = low < n_keys && !before(x, keys[low]);
      i.out[0]->as<V>()[at.at[1]] = found ? values[low] : *i.in[3]->as<V>();
    }
  });
}

template <class F> void with_label_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kString: return f(std::string());
    case DType::kFloat: return f(float{});
    case DType::kDouble: return f(double{});
    case DType::kInt64: return f(int64_t{});
    case DType::kInt32: return f(int32_t{});
    case DType::kInt16: return f(int16_t{});
    default: return;
  }
}

Run prepare_label_encoder(Bind& b) {
  const Tensor &x = *b.in[0], &out = *b.out[0];
  Run run = nullptr;
  with_label_type(x.dtype, [&](auto key) {
    with_label_type(out.dtype, [&](auto value) { run = run_label_encoder<decltype(key), decltype(value)>; });
  });
  bool fits = run != nullptr && x.rank == out.rank && b.in[1]->dtype == x.dtype && b.in[2]->dtype == out.dtype &&
              b.in[3]->dtype == out.dtype && b.in[1]->count() == b.in[2]->count();
  auto& p = b.make<Encoder>();
  for (int d = 0; fits && d < x.rank; ++d) {
    fits = x.dims[d] == out.dims[d];
    p.at.add(x.dims[d], {x.strides[d], out.strides[d]});
  }
  if (!fits)
    b.host->fail("labels of %s, element type %d, to element type %d", shape_text(x).text, static_cast<int>(x.dtype),
                 static_cast<int>(out.dtype));
  p.n = p.at.count();
  return run;
}

void shape_label_encoder(Bind& b) { set_dims(*b.out[0], b.in[0]->rank, b.in[0]->dims); }

const RegisterKernel string_concat{"string_concat", prepare_string_concat, shape_string_concat};
const RegisterKernel label_encoder{"label_encoder", prepare_label_encoder, shape_label_encoder};

}  // namespace
}  // namespace graphopt
