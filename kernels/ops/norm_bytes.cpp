// Normalizations of float32 rows whose results are bytes, for the products that read them.
//
// layer_norm.bytes, rms_norm.bytes   one scale for all, as QuantizeLinear has it
//     out: y u8 or s8                         ints: axis, zero point   floats: epsilon, scale
// layer_norm.rows, rms_norm.rows     a scale and a zero point a row, as `quantize_rows`
//     out: y u8, scales f32, zeros s32        ints: axis               floats: epsilon
//
// in: x, scale?, and bias? of layer_norm, each one value an element of a row. Rows are the dims from the axis on, without
// gaps. They are in L1 from the second reading on; numbers of which a range is taken first are written to scratch.
#include "ops/norm_vectors.h"
#include "ops/quantized_rows.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Params {
  Loop<2> rows;
  int64_t length = 1, grain = 1;
  float epsilon = 0;
  bool centred = true;
  ByteRounding rounding;
};

const float* values(const Instr& i, int input) { return i.in[input] == nullptr ? nullptr : i.in[input]->as<float>(); }

// f(x, y, row number, worker) for every row.
template <class F>
void over_byte_rows(const Instr& i, Worker& worker, const F& f) {
  const auto& p = i.as<Params>();
  worker.parallel(p.rows.count, p.grain, [&](int64_t begin, int64_t end, Worker& w) {
    int64_t row = begin;
    walk<2>(p.rows, begin, end, [&](const int64_t(&at)[2]) { f(i.in[0]->as<float>() + at[0], i.out[0]->as<uint8_t>() + at[1], row++, w); });
  });
}

template <bool divides>
void run_by_one_scale(const Instr& i, Worker& worker) {
  const auto& p = i.as<Params>();
  const float *scale = values(i, 1), *bias = p.centred ? values(i, 2) : nullptr;
  const ByteRounding rounding = p.rounding;
  over_byte_rows(i, worker, [&](const float* x, uint8_t* y, int64_t, Worker&) {
    normalized(x, p.length, moments_of(x, p.length, p.centred, p.epsilon), scale, bias,
               [&](int64_t k, vf v, int lanes) { store_bytes(y + k, byte_codes<divides>(rounding, v), lanes); });
  });
}

void run_by_rows(const Instr& i, Worker& worker) {
  const auto& p = i.as<Params>();
  const float *scale = values(i, 1), *bias = p.centred ? values(i, 2) : nullptr;
  float* scales = i.out[1]->as<float>();
  int32_t* zeros = i.out[2]->as<int32_t>();
  over_byte_rows(i, worker, [&](const float* x, uint8_t* y, int64_t row, Worker& w) {
    float* made = reinterpret_cast<float*>(w.scratch);
    vf low{}, high{};
    normalized(x, p.length, moments_of(x, p.length, p.centred, p.epsilon), scale, bias, [&](int64_t k, vf v, int lanes) {
      // Lanes beyond the row are 0: the values are of 0, less the mean, and count for nothing.
      if (lanes < kLanes) v = first_lanes(v, lanes, vf{});
      low = min(low, v), high = max(high, v);
      store(made + k, v);
    });
    const RowScale s = row_scale(min_of(low), max_of(high));
    quantize_row(s, made, p.length, y);
    scales[row] = s.step, zeros[row] = s.zero;
  });
}

Params& prepare_rows(Bind& b, const char* name, bool centred, int ints, int floats, int outputs) {
  if (b.n_ints != ints || b.n_floats != floats || b.n_out != outputs || b.n_in != (centred ? 3 : 2))
    b.host->fail("%s takes %d operands, %d integers and %d numbers", name, centred ? 3 : 2, ints, floats);
  const Tensor &x = *b.in[0], &y = *b.out[0];
  if (x.dtype != DType::kFloat || !same_dims(x, y)) b.host->fail("%s of element type %d, rank %d", name, static_cast<int>(x.dtype), x.rank);
  const int axis = axis_of(b, name, b.ints[0], x.rank);
  auto& p = b.make<Params>();
  Loop<2> inner;
  for (int i = 0; i < x.rank; ++i) (i < axis ? p.rows : inner).add(x.dims[i], {x.strides[i], y.strides[i]});
  p.length = inner.count;
  if (x.count() > 0 && (!is_contiguous(inner, 0) || !is_contiguous(inner, 1))) b.host->fail("%s of rows of %lld that have gaps", name, static_cast<long long>(p.length));
  for (int i = 1; i < b.n_in; ++i)
    if (b.has(i) && (b.in[i]->dtype != DType::kFloat || b.in[i]->count() != p.length || !b.in[i]->is_dense()))
      b.host->fail("%s: input %d has %lld elements for rows of %lld", name, i, static_cast<long long>(b.in[i]->count()), static_cast<long long>(p.length));
  p.grain = p.length > 0 ? 1 + kGrainElements / p.length : 1;
  p.epsilon = static_cast<float>(b.floats[0]);
  p.centred = centred;
  return p;
}

Run prepare_by_one_scale(Bind& b, const char* name, bool centred) {
  Params& p = prepare_rows(b, name, centred, 2, 2, 1);
  const DType dtype = b.out[0]->dtype;
  if (dtype != DType::kUint8 && dtype != DType::kInt8) b.host->fail("%s in element type %d", name, static_cast<int>(dtype));
  p.rounding = byte_rounding(static_cast<float>(b.floats[1]), static_cast<int32_t>(b.ints[1]), dtype == DType::kInt8);
  return p.rounding.divides ? run_by_one_scale<true> : run_by_one_scale<false>;
}

Run prepare_by_rows(Bind& b, const char* name, bool centred) {
  const Params& p = prepare_rows(b, name, centred, 1, 1, 3);
  const Tensor &scales = *b.out[1], &zeros = *b.out[2];
  if (b.out[0]->dtype != DType::kUint8 || scales.dtype != DType::kFloat || zeros.dtype != DType::kInt32)
    b.host->fail("%s in element type %d", name, static_cast<int>(b.out[0]->dtype));
  if (scales.count() != p.rows.count || zeros.count() != p.rows.count || !scales.is_dense() || !zeros.is_dense())
    b.host->fail("%s: %lld scales for %lld rows", name, static_cast<long long>(scales.count()), static_cast<long long>(p.rows.count));
  b.need_scratch((p.length + kLanes) * 4);
  return run_by_rows;
}

void shape(Bind& b) {
  const Tensor& x = *b.in[0];
  const int axis = axis_of(b, "normalization", b.ints[0], x.rank);
  for (int k = 0; k < b.n_out; ++k) {
    b.out[k]->rank = k == 0 ? x.rank : axis;
    for (int i = 0; i < b.out[k]->rank; ++i) b.out[k]->dims[i] = x.dims[i];
  }
}

const RegisterKernel layer_bytes{"layer_norm.bytes", [](Bind& b) { return prepare_by_one_scale(b, "layer_norm.bytes", true); }, shape};
const RegisterKernel rms_bytes{"rms_norm.bytes", [](Bind& b) { return prepare_by_one_scale(b, "rms_norm.bytes", false); }, shape};
const RegisterKernel layer_rows{"layer_norm.rows", [](Bind& b) { return prepare_by_rows(b, "layer_norm.rows", true); }, shape};
const RegisterKernel rms_rows{"rms_norm.rows", [](Bind& b) { return prepare_by_rows(b, "rms_norm.rows", false); }, shape};

}  // namespace
}  // namespace graphopt
