// The view of a checkpoint that models bind to.
//
// A model is built from a Weights and its config: `Linear(weights["img_in"], in, out)` asks for the tensors
// `img_in.weight` and `img_in.bias` by name and shape. What is missing or has another shape is collected, and
// Weights::finish() throws one error that lists it all.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/quantized.h"

namespace opensora {

class WeightStream;

// What becomes of the pages of a file that a tensor is a view of.
enum class PageAdvice {
  kRead,   // they are read now, by the caller's thread
  kLetGo,  // they leave this process' memory; who touches them reads them again
};

// Where tensors come from: a checkpoint on disk, or nothing at all (MetaSource).
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // A view of the tensor as stored (CPU, the file's dtype), or nullopt if there is none of that name. What is quantised
  // is dequantised to float32.
  virtual std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef expected_shape) const = 0;
  // A view of the matrix as stored, or nullopt if there is none of that name that is quantised.
  virtual std::optional<QuantizedTensor> quantized(const std::string& /*name*/,
                                                   at::IntArrayRef /*expected_shape*/) const {
    return std::nullopt;
  }
  virtual bool contains(const std::string& name) const = 0;
  // All names, for the warning about unused tensors; empty where that makes no sense.
  virtual std::vector<std::string> names() const = 0;
  // What messages call it: a file or folder.
  virtual std::string description() const = 0;
  // For a tensor of find(). Nothing happens where it is no view of a file.
  virtual void advise(const at::Tensor& /*tensor*/, PageAdvice /*advice*/) const {}
};

// Of a buffer between a file and an accelerator: large enough for the bus, small beside a model.
constexpr int64_t kStagingBytes = int64_t{32} << 20;

// How a model's weights are held. What is "in the run's dtype" stays in the file's where holding_dtype() says so, and
// quantised matrices of layers stay quantised.
enum class Residence {
  kMapped,    // on the CPU as views of the file in its dtype, which layers convert as they run; elsewhere as kDevice
  kDevice,    // on the device, in the run's dtype
  kStreamed,  // those of the blocks come to the device, in the run's dtype, a few blocks ahead; the rest as kMapped
};

struct WeightOptions {
  Residence residence = Residence::kMapped;
  int64_t ahead = 2;              // blocks that are on their way beside the one in use
  bool gives_back_pages = false;  // of blocks that have been used, or copied
  // The device works on the source's tensors where their dtype is the run's.
  std::optional<bool> works_on_views = {};  // default: if kernel_device() is the CPU
  // On the meta device: the one that it stands in for.
  std::optional<at::Device> stands_for = {};
  // Of quantised matrices: whether their products are to be exact (QuantizedTensor). Default: as their maker wants it.
  std::optional<bool> exact_products = {};
  // Of a buffer between file and device; default: kStagingBytes for an accelerator, else none.
  int64_t staging_bytes = -1;
};

// A source without data: answers with meta tensors, which take no memory of their own, and remembers them. With it a
// full-size model runs shape-only and its parameters are counted and listed. This one has whatever it is asked for.
class MetaSource : public WeightSource {
 public:
  explicit MetaSource(at::ScalarType dtype = at::kBFloat16) : dtype_(dtype) {}
  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef expected_shape) const final;
  std::optional<QuantizedTensor> quantized(const std::string& name, at::IntArrayRef expected_shape) const final;
  bool contains(const std::string&) const override { return true; }
  std::vector<std::string> names() const override { return {}; }
  std::string description() const override { return "meta device"; }

  struct Entry {
    std::string name;
    std::vector<int64_t> shape;
    at::ScalarType dtype = at::kBFloat16;
    std::optional<QuantizedTensor> quantized = {};  // as it is stored; the other members are what it stands for

    int64_t elements() const { return c10::multiply_integers(shape); }
    int64_t stored_bytes() const {
      return quantized ? quantized->nbytes() : elements() * static_cast<int64_t>(c10::elementSize(dtype));
    }
  };
  // What was asked for and is there, in order.
  const std::vector<Entry>& requested() const { return requested_; }

 private:
  // For a name that contains() knows.
  virtual Entry entry(const std::string& name, at::IntArrayRef expected_shape) const {
    return {name, expected_shape.vec(), dtype_};
  }

  at::ScalarType dtype_;
  mutable std::vector<Entry> requested_;
};

// What a model's weights take on the device, in the dtype in which it holds them: bytes, without those that stay on the
// host.
struct WeightBytes {
  int64_t outside = 0;               // of all blocks
  std::vector<int64_t> blocks = {};  // of each
  int64_t largest_quantized = 0;     // elements of the largest of these matrices that a layer dequantises as it runs

  int64_t whole() const;
  // Where blocks are streamed: those in use and on their way take what the largest takes.
  int64_t streamed(int64_t ahead = WeightOptions{}.ahead) const;
};

// A layer's matrix [out, in].
struct Matrix {
  at::Tensor weight;                              // undefined: it is quantised
  std::optional<QuantizedTensor> quantized = {};  // its tensors are placed as they are stored
};

// A name prefix within a source. Cheap to copy; copies share the list of problems.
class Weights {
 public:
  // `device` and `dtype` are where and as what bound tensors live: see Residence.
  Weights(std::shared_ptr<const WeightSource> source, at::Device device, at::ScalarType dtype,
          const WeightOptions& options = {});

  Weights operator[](std::string_view name) const;  // child scope: "img_in" -> prefix + "img_in."
  Weights operator[](int64_t index) const { return (*this)[std::to_string(index)]; }

  // The same scope, whose tensors stay as the source has them: for weights that are used once, or by another device.
  Weights on_host() const;
  // The same scope for a block of many, the next of the model's stream(): its tensors hold data between
  // stream()->use(its group) and the next use(), or where the stream keeps all of them from finish() on. Where there is
  // no stream, they hold it all the time.
  Weights begin_block() const;
  // nullptr: weights are there all the time.
  std::shared_ptr<WeightStream> stream() const;

  // Binds prefix + name. Where it is missing or mis-shaped, that is noted for finish() and an undefined tensor
  // is returned.
  at::Tensor tensor(std::string_view name, at::IntArrayRef shape) const;
  // The same for a layer, which can work with quantised weights; and for a table, of which only some rows are
  // dequantised at a time.
  Matrix matrix(std::string_view name, at::IntArrayRef shape) const;
  Matrix table(std::string_view name, at::IntArrayRef shape) const;
  // True if prefix + name is in the source (always true for a MetaSource).
  bool has(std::string_view name) const;

  at::Device device() const;
  // Whose kernels will run: the device, or what it stands in for.
  at::Device kernel_device() const;
  at::ScalarType dtype() const;
  // The formats of quantised matrices that were bound, without tables, those whose products are to be exact, and those
  // on the host (a transformer's modulations, whose products are exact, too).
  const std::set<QuantizedFormat>& quantized() const;
  // What all that was bound so far takes on the device, wherever it was bound to.
  const WeightBytes& bytes() const;

  // Throws CheckpointError listing every missing or mis-shaped tensor by full name with both shapes; then waits for the
  // weights that are to stay on the device, starts to stream the others, and warns of tensors under this prefix that
  // nothing asked for, if `warn_unused`.
  void finish(bool warn_unused = true) const;

 private:
  struct Binding;
  void note_problem(const std::string& problem) const;
  at::ScalarType held(const at::Tensor& found) const;
  void count(int64_t bytes) const;
  at::Tensor place(const at::Tensor& found, at::ScalarType dtype) const;

  std::shared_ptr<Binding> binding_;
  std::string prefix_;
  bool on_host_ = false, in_block_ = false;
};

// How many of "PREFIX0SUFFIX", "PREFIX1SUFFIX", … a source has without a gap: a model's layers.
int64_t count_numbered(const WeightSource& source, const std::string& prefix, const std::string& suffix);

// "[3, 64]"
std::string shape_string(at::IntArrayRef shape);

}  // namespace opensora
