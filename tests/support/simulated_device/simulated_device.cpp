// clang-format off
#include "support/simulated_device/simulated_device.h"
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/resize_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <c10/util/Backtrace.h>
#include <iostream>
#include <cstdlib>
#include <sys/mman.h>
#include <map>
#include <mutex>
#include <set>

namespace opensora::test::simulated {
namespace {
struct Sums { int64_t kernels = 0, syncs = 0, h2d = 0, d2h = 0, allocations = 0, bytes = 0, peak = 0; };
constexpr auto kSim = c10::DeviceType::PrivateUse1;
std::recursive_mutex g_mutex;
Sums g_counters;
int64_t g_limit = 0;
bool g_raise = false;
std::vector<std::string> g_races;

// --- vector clocks: one entry a stream, and one for the host
using Clock = std::map<int64_t, int64_t>;
void join(Clock& a, const Clock& b) { for (auto& [k, v] : b) a[k] = std::max(a[k], v); }
bool before(const Clock& known, int64_t stream, int64_t tick) { auto it = known.find(stream); return it != known.end() && it->second >= tick; }
struct Access { int64_t stream = -1, tick = 0; std::string op; };
struct Block { size_t bytes = 0, mapped = 0; bool pinned = false; Access write; std::map<int64_t, Access> reads; };
std::map<uintptr_t, Block> g_blocks;  // by begin
std::map<int64_t, Clock> g_clocks;    // what a stream knows; -2: the host's thread
// Each thread of the host knows what it has waited for; that one thread tells another is not seen.
int64_t g_threads = 0;
thread_local const int64_t kHost = -2 - ++g_threads;
thread_local int64_t t_stream = 0;
int64_t g_next_stream = 1;
std::map<void*, Clock> g_events;

Block* block_of(const void* p) {
  auto it = g_blocks.upper_bound(reinterpret_cast<uintptr_t>(p));
  if (it == g_blocks.begin()) return nullptr;
  --it;
  return reinterpret_cast<uintptr_t>(p) < it->first + it->second.mapped ? &it->second : nullptr;
}
uintptr_t begin_of(const Block* b) { for (auto& [k, v] : g_blocks) if (&v == b) return k; return 0; }

void race(const std::string& text) {
  g_races.push_back(text);
  if (false) std::cerr << "RACE " << text << "\n" << c10::get_backtrace(3, 24, true) << "\n";
  if (g_raise) throw std::runtime_error("race: " + text);
}
void check(Block& b, int64_t stream, bool writes, const std::string& op) {
  Clock& known = g_clocks[stream];
  if (b.write.stream != -1 && b.write.stream != stream && !before(known, b.write.stream, b.write.tick))
    race(op + " in stream " + std::to_string(stream) + " after " + b.write.op + " wrote in stream " + std::to_string(b.write.stream));
  if (writes)
    for (auto& [s, a] : b.reads)
      if (s != stream && !before(known, s, a.tick)) race(op + " writes in stream " + std::to_string(stream) + " while " + a.op + " reads in stream " + std::to_string(s));
  Access now{stream, known[stream], op};
  if (writes) { b.write = now; b.reads.clear(); } else { b.reads[stream] = now; }
}
void launch(int64_t stream) {  // what the host knows, the stream knows; it ticks
  join(g_clocks[stream], g_clocks[kHost]);
  ++g_clocks[stream][stream];
}

// --- memory
size_t pages(size_t n) { return (n + 4095) / 4096 * 4096; }
void protect(Block& b, bool open) { if (!b.pinned) mprotect(reinterpret_cast<void*>(begin_of(&b)), b.mapped, open ? PROT_READ | PROT_WRITE : PROT_NONE); }
void* take(size_t bytes, bool pinned) {
  std::lock_guard lock(g_mutex);
  if (bytes == 0) return nullptr;
  if (!pinned && g_limit > 0 && g_counters.bytes + static_cast<int64_t>(bytes) > g_limit) throw c10::OutOfMemoryError({__func__, __FILE__, static_cast<uint32_t>(__LINE__)}, "simulated device out of memory");
  const size_t mapped = pages(bytes);
  void* p = mmap(nullptr, mapped, pinned ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  g_blocks[reinterpret_cast<uintptr_t>(p)] = {bytes, mapped, pinned, {}, {}};
  if (!pinned) { ++g_counters.allocations; g_counters.bytes += bytes; g_counters.peak = std::max(g_counters.peak, g_counters.bytes); }
  return p;
}
void give(void* p) {
  std::lock_guard lock(g_mutex);
  auto it = g_blocks.find(reinterpret_cast<uintptr_t>(p));
  if (it == g_blocks.end()) return;
  // As CUDA's caching allocator: memory is free for the stream that it was allocated in; another stream's use must be over for the host or that stream.
  if (!it->second.pinned) g_counters.bytes -= it->second.bytes;
  munmap(p, it->second.mapped);
  g_blocks.erase(it);
}
struct SimAllocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t n) override { void* p = take(n, false); return {p, p, &give, {kSim, 0}}; }
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void copy_data(void* d, const void* s, std::size_t n) const override {
    std::lock_guard lock(g_mutex);
    Block *a = block_of(d), *b = block_of(s);
    if (a) protect(*a, true);
    if (b) protect(*b, true);
    std::memcpy(d, s, n);
    if (a) protect(*a, false);
    if (b) protect(*b, false);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t = {0, 0}) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats s;
    s.allocated_bytes[0].current = g_counters.bytes; s.allocated_bytes[0].peak = g_counters.peak;
    return s;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override { g_counters.peak = g_counters.bytes; }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override { size_t total = g_limit > 0 ? g_limit : size_t{1} << 34; return {total - g_counters.bytes, total}; }
} g_allocator;
struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override { void* p = take(n, true); return {p, p, &give, at::kCPU}; }
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void copy_data(void* d, const void* s, std::size_t n) const override { std::memcpy(d, s, n); }
} g_pinned;

// --- streams, events
void synchronize_host(int64_t stream) { ++g_counters.syncs; join(g_clocks[kHost], g_clocks[stream]); }
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kSim; }
  c10::Device exchangeDevice(c10::Device d) const override { return {kSim, 0}; }
  c10::Device getDevice() const override { return {kSim, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream stream_of(int64_t id) const { return c10::Stream(c10::Stream::UNSAFE, {kSim, 0}, id); }
  c10::Stream getStream(c10::Device) const override { return stream_of(t_stream); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream_of(0); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { std::lock_guard l(g_mutex); return stream_of(g_next_stream++); }
  c10::Stream getNewStream(c10::Device, int) const override { std::lock_guard l(g_mutex); return stream_of(g_next_stream++); }
  c10::Stream exchangeStream(c10::Stream s) const override { auto old = t_stream; t_stream = s.id(); return stream_of(old); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void** event, const c10::Stream& s, const c10::DeviceIndex, const c10::EventFlag) const override {
    std::lock_guard l(g_mutex);
    if (!*event) *event = new char;
    launch(s.id());
    g_events[*event] = g_clocks[s.id()];
  }
  void block(void* event, const c10::Stream& s) const override { if (!event) return; std::lock_guard l(g_mutex); join(g_clocks[s.id()], g_events[event]); }
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { std::lock_guard l(g_mutex); g_events.erase(event); delete static_cast<char*>(event); }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream& s) const override { std::lock_guard l(g_mutex); synchronize_host(s.id()); }
  void synchronizeEvent(void* event) const override { if (!event) return; std::lock_guard l(g_mutex); ++g_counters.syncs; join(g_clocks[kHost], g_events[event]); }
  void synchronizeDevice(const c10::DeviceIndex) const override { std::lock_guard l(g_mutex); ++g_counters.syncs; auto all = g_clocks; for (auto& [s, c] : all) join(g_clocks[kHost], c); }
};
struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  bool isPinnedPtr(const void* p) const override { std::lock_guard l(g_mutex); auto* b = block_of(p); return b && b->pinned; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &g_pinned; }
};
void register_once() {
  static const bool done = [] {
    static const Guard guard;
    c10::impl::DeviceGuardImplRegistrar registrar(kSim, &guard);
    c10::register_privateuse1_backend("sim");
    c10::SetAllocator(kSim, &g_allocator, 1);
    at::RegisterPrivateUse1HooksInterface(new Hooks);
    return true;
  }();
  (void)done;
}

// --- operators: on a CPU tensor that shares the memory
at::Tensor as_cpu(const at::Tensor& t) {
  auto* impl = t.unsafeGetTensorImpl();
  c10::Storage storage(c10::Storage::use_byte_size_t(), t.storage().nbytes(), c10::DataPtr(t.storage().mutable_data(), at::kCPU), nullptr, false);
  at::Tensor out = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), impl->storage_offset());
  return out;
}
at::Tensor empty_memory_format(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &g_allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), dtype.value_or(at::kFloat), format);
}
at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &g_allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), dtype.value_or(at::kFloat));
}
bool on_sim(const at::Tensor& t) { return t.defined() && t.device().type() == kSim; }

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  std::lock_guard lock(g_mutex);
  const auto& schema = op.schema();
  const std::string name = op.operator_name().name;
  const size_t n = schema.arguments().size(), first = stack->size() - n;
  ++g_counters.kernels;
  launch(t_stream);
  std::vector<at::Tensor> originals;
  std::vector<std::pair<at::Tensor, at::Tensor>> resized;  // empty results that the operator makes large enough
  std::set<Block*> opened;
  auto enter = [&](const at::Tensor& t, bool writes) {
    if (!on_sim(t)) {
      if (t.defined() && t.device().is_cpu() && t.dim() > 0) throw std::runtime_error(name + ": a host tensor among device tensors");
      return t;
    }
    if (t.numel() == 0 && writes) {
      resized.emplace_back(t, at::empty(t.sizes(), t.options().device(at::kCPU)));
      return resized.back().second;
    }
    if (t.numel() > 0) {
      Block* b = block_of(t.storage().data());
      if (!b) throw std::runtime_error(name + ": device memory that was freed");
      if (name != "aten::set_" && name != "aten::resize_") check(*b, t_stream, writes, name);  // those change no data
      if (opened.insert(b).second) protect(*b, true);
    }
    originals.push_back(t);
    return as_cpu(t);
  };
  for (size_t i = 0; i < n; ++i) {
    auto& v = (*stack)[first + i];
    const bool writes = schema.arguments()[i].alias_info() && schema.arguments()[i].alias_info()->isWrite();
    if (v.isTensor()) v = enter(v.toTensor(), writes);
    else if (v.isTensorList()) { std::vector<at::Tensor> l; for (const at::Tensor& t : v.toTensorVector()) l.push_back(enter(t, writes)); v = l; }
    else if (v.isOptionalTensorList()) { c10::List<std::optional<at::Tensor>> l; for (const std::optional<at::Tensor>& t : v.toOptionalTensorList()) l.push_back(t ? std::optional(enter(*t, writes)) : t); v = l; }
    else if (v.isDevice()) v = c10::IValue(at::Device(at::kCPU));
  }
  struct Close { std::set<Block*>& o; ~Close() { for (Block* b : o) protect(*b, false); } } close{opened};
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  const size_t returns = schema.returns().size(), out_first = stack->size() - returns;
  for (auto& [device, cpu] : resized) {
    if (cpu.numel() == 0) continue;
    auto* storage = device.storage().unsafeGetStorageImpl();
    storage->set_data_ptr_noswap(g_allocator.allocate(cpu.nbytes()));
    storage->set_nbytes(cpu.nbytes());
    device.unsafeGetTensorImpl()->set_sizes_and_strides(cpu.sizes(), cpu.strides(), 0);
    Block* b = block_of(device.storage().data());
    check(*b, t_stream, true, name);
    protect(*b, true);
    as_cpu(device).copy_(cpu);
    protect(*b, false);
  }
  auto leave = [&](const at::Tensor& t) -> at::Tensor {
    if (!t.defined()) return t;
    for (auto& [device, cpu] : resized)
      if (t.unsafeGetTensorImpl() == cpu.unsafeGetTensorImpl()) return device;
    for (const at::Tensor& o : originals)
      if (o.numel() > 0 && t.numel() > 0 && t.storage().data() == o.storage().data()) return o.sizes() == t.sizes() && o.strides() == t.strides() && o.storage_offset() == t.storage_offset() ? o : o.as_strided(t.sizes(), t.strides(), t.storage_offset());
    at::Tensor out = empty_strided(t.sizes(), t.strides(), t.scalar_type(), {}, {}, {});
    if (t.numel() > 0) {
      Block* b = block_of(out.storage().data());
      check(*b, t_stream, true, name);
      protect(*b, true);
      as_cpu(out).copy_(t);
      protect(*b, false);
    }
    return out;
  };
  for (size_t i = 0; i < returns; ++i) {
    auto& v = (*stack)[out_first + i];
    if (v.isTensor()) v = leave(v.toTensor());
    else if (v.isTensorList()) { std::vector<at::Tensor> l; for (const at::Tensor& t : v.toTensorVector()) l.push_back(leave(t)); v = l; }
  }
}
at::Tensor copy_from(const at::Tensor& src, const at::Tensor& dst, bool non_blocking) {
  std::lock_guard lock(g_mutex);
  launch(t_stream);
  auto side = [&](const at::Tensor& t, bool writes) {
    if (t.numel() == 0) return t;
    Block* b = block_of(t.storage().data());
    if (b) { check(*b, t_stream, writes, "copy"); protect(*b, true); }
    return on_sim(t) ? as_cpu(t) : t;
  };
  const int64_t bytes = static_cast<int64_t>(dst.nbytes());
  if (on_sim(src) && !on_sim(dst)) g_counters.d2h += bytes;
  else if (!on_sim(src)) g_counters.h2d += bytes;
  else ++g_counters.kernels;
  { const at::Tensor s = side(src, false), d = side(dst, true); d.copy_(s); }
  for (const auto& t : {src, dst}) if (t.numel() > 0) if (Block* b = block_of(t.storage().data())) protect(*b, false);
  const bool host_involved = !on_sim(src) || !on_sim(dst);
  const at::Tensor& host = on_sim(src) ? dst : src;
  if (host_involved && !(non_blocking && (block_of(host.storage().data()) != nullptr))) synchronize_host(t_stream);
  return dst;
}
at::Tensor copy_from_and_resize(const at::Tensor& src, const at::Tensor& dst) { return copy_from(src, dst, false); }
at::Scalar local_scalar(const at::Tensor& t) {
  std::lock_guard lock(g_mutex);
  launch(t_stream);
  Block* b = block_of(t.storage().data());
  check(*b, t_stream, false, "item");
  protect(*b, true);
  const at::Scalar s = as_cpu(t).item();
  protect(*b, false);
  g_counters.d2h += t.element_size();
  synchronize_host(t_stream);
  return s;
}
// LibTorch has no dispatched convolution of other devices than its own.
at::Tensor convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups) {
  std::lock_guard lock(g_mutex);
  ++g_counters.kernels;
  launch(t_stream);
  std::set<Block*> opened;
  auto enter = [&](const at::Tensor& t) {
    if (!on_sim(t)) throw std::runtime_error("convolution: a host tensor among device tensors");
    Block* b = block_of(t.storage().data());
    check(*b, t_stream, false, "convolution");
    if (opened.insert(b).second) protect(*b, true);
    return as_cpu(t);
  };
  at::Tensor out;
  {
    const at::Tensor cx = enter(x), cw = enter(w);
    const std::optional<at::Tensor> cb = bias && bias->defined() ? std::optional(enter(*bias)) : std::nullopt;
    out = at::convolution(cx, cw, cb, stride, padding, dilation, transposed, output_padding, groups);
    for (Block* b : opened) protect(*b, false);
  }
  at::Tensor here = empty_strided(out.sizes(), out.strides(), out.scalar_type(), {}, {}, {});
  Block* b = block_of(here.storage().data());
  check(*b, t_stream, true, "convolution");
  protect(*b, true);
  as_cpu(here).copy_(out);
  protect(*b, false);
  return here;
}
at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(source.storage());
  self.unsafeGetTensorImpl()->set_sizes_and_strides(source.sizes(), source.strides(), source.storage_offset());
  return self;
}
at::Tensor& set_storage(at::Tensor& self, c10::Storage s, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) { return at::native::set_storage_cpu_(self, std::move(s), offset, size, stride); }

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty_memory_format);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("convolution_overrideable", &convolution);
}
}  // namespace
Counters counters() { std::lock_guard l(g_mutex); return {g_counters.kernels, g_counters.syncs, 0, g_counters.h2d, g_counters.d2h, g_counters.allocations}; }
void start(const Options& options) { register_once(); g_limit = options.memory_bytes; g_raise = options.race_throws; g_races.clear(); const auto bytes = g_counters.bytes; g_counters = {}; g_counters.bytes = g_counters.peak = bytes; }
at::Device device() { return {kSim, 0}; }
int64_t allocated_bytes() { return g_counters.bytes; }
int64_t peak_allocated_bytes() { return g_counters.peak; }
int64_t reserved_bytes() { return g_counters.bytes; }
int64_t pinned_bytes() { int64_t n = 0; for (auto& [k, b] : g_blocks) if (b.pinned) n += b.bytes; return n; }
std::vector<std::string> take_races() { return std::exchange(g_races, {}); }
}  // namespace opensora::test::simulated
