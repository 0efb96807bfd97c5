#include "io/pickle.h"

#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_set>
#include <utility>
#include <variant>

#include "core/json_text.h"

namespace opensora::io {
namespace {

struct Node;
using Value = Node*;  // owned by the reader: values may be shared and, in a malicious file, hold themselves

using None = std::monostate;
struct Mark {};
using Items = std::vector<Value>;  // a tuple or a list
using Dict = std::vector<std::pair<Value, Value>>;
struct Global {
  std::string name;
};
struct Storage {
  std::string key;
  at::ScalarType dtype;
  int64_t numel;
};
// The larger kinds are held by pointer, so that a node stays small: an instruction of one byte may create one.
struct Node {
  std::variant<None, Mark, bool, int64_t, double, std::string, Items, Dict, Global, std::shared_ptr<const Storage>,
               std::shared_ptr<const PickledTensor>>
      data;
};

constexpr size_t kLongestKey = 255;  // of a storage's name, which each of its tensors repeats; torch.save counts them

constexpr const char* kOrderedDict = "collections.OrderedDict";
constexpr const char* kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr const char* kRebuildParameter = "torch._utils._rebuild_parameter";

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 9> kStorages = {{
    {"torch.FloatStorage", at::kFloat},
    {"torch.HalfStorage", at::kHalf},
    {"torch.BFloat16Storage", at::kBFloat16},
    {"torch.DoubleStorage", at::kDouble},
    {"torch.LongStorage", at::kLong},
    {"torch.IntStorage", at::kInt},
    {"torch.CharStorage", at::kChar},
    {"torch.ByteStorage", at::kByte},
    {"torch.BoolStorage", at::kBool},
}};

std::optional<at::ScalarType> storage_dtype(std::string_view name) {
  for (const auto& [known, dtype] : kStorages) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

std::string kind_of(const Node& node) {
  if (const auto* text = std::get_if<std::string>(&node.data)) return "the string " + json_excerpt(*text);
  if (const auto* global = std::get_if<Global>(&node.data)) return "the object " + json_excerpt(global->name);
  // In the order of Node::data.
  constexpr std::array kKinds = {"None",   "nothing",      "a boolean", "an integer", "a number", "a string",
                                 "a list", "a dictionary", "an object", "a storage",  "a tensor"};
  static_assert(kKinds.size() == std::variant_size_v<decltype(Node::data)>);
  return kKinds[node.data.index()];
}

std::string dimensions_text(size_t dimensions) {
  return "a tensor of " + std::to_string(dimensions) + " dimensions, expected at most " +
         std::to_string(kMostDimensions);
}

// The stack machine of pickle protocol 2, which torch.save writes. Values are shared and never copied, so that time and
// memory depend on the pickle's length alone, whatever it repeats.
class PickleReader {
 public:
  explicit PickleReader(std::string_view bytes) : bytes_(bytes) {}

  Value run() {
    while (true) {
      const char op = read<char>();
      if (op == '.') return pop();
      step(op);
    }
  }

 private:
  template <typename T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) throw FormatError("its list of tensors is cut short; is the download complete?");
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }

  std::string_view take_line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) throw FormatError("its list of tensors is cut short; is the download complete?");
    const std::string_view line = take(end - at_);
    take(1);
    return line;
  }

  template <typename T>
  void push(T data) {
    stack_.push_back(&nodes_.emplace_back(Node{std::move(data)}));
  }

  Value pop() {
    if (stack_.empty()) throw FormatError("its list of tensors is damaged: a value is missing");
    const Value value = stack_.back();
    stack_.pop_back();
    return value;
  }

  // Pops all values above the topmost mark, and the mark.
  Items pop_to_mark() {
    size_t mark = stack_.size();
    while (mark > 0 && !std::holds_alternative<Mark>(stack_[mark - 1]->data)) --mark;
    if (mark == 0) throw FormatError("its list of tensors is damaged: a mark is missing");
    Items values(stack_.begin() + static_cast<std::ptrdiff_t>(mark), stack_.end());
    stack_.resize(mark - 1);
    return values;
  }

  Items pop_count(size_t count) {
    Items values(count);
    for (size_t i = count; i > 0; --i) values[i - 1] = pop();
    return values;
  }

  template <typename T>
  static T& as(Value value, const char* expected) {
    if (T* data = std::get_if<T>(&value->data)) return *data;
    throw FormatError("its list of tensors is damaged: expected " + std::string(expected) + ", found " +
                      kind_of(*value));
  }

  Value top() {
    const Value value = pop();
    stack_.push_back(value);
    return value;
  }

  void step(char op);
  void recall(uint32_t index);
  void set_items(const Items& values);
  void append(const Items& values);
  void push_long();
  void push_global();
  void push_storage();
  void reduce();
  void build();

  std::string_view bytes_;
  size_t at_ = 0;
  std::deque<Node> nodes_;
  std::vector<Value> stack_;
  std::map<uint32_t, Value> memo_;
};

// Runs one instruction; the names are those of Python's pickletools.
void PickleReader::step(char op) {
  switch (static_cast<unsigned char>(op)) {
    // clang-format off
    case 0x80: take(1); return;                                           // PROTO
    case '(': return push(Mark{});                                        // MARK
    case 'N': return push(None{});                                        // NONE
    case 0x88: return push(true);                                         // NEWTRUE
    case 0x89: return push(false);                                        // NEWFALSE
    case 'J': return push(int64_t{read<int32_t>()});                      // BININT
    case 'K': return push(int64_t{read<uint8_t>()});                      // BININT1
    case 'M': return push(int64_t{read<uint16_t>()});                     // BININT2
    case 0x8a: return push_long();                                        // LONG1
    case 'G': take(8); return push(0.0);                                  // BINFLOAT: no tensor needs its value
    case 'X': return push(std::string(take(read<uint32_t>())));           // BINUNICODE
    case '}': return push(Dict{});                                        // EMPTY_DICT
    case ']': case ')': return push(Items{});                             // EMPTY_LIST, EMPTY_TUPLE
    case 't': return push(pop_to_mark());                                 // TUPLE
    case 0x85: return push(pop_count(1));                                 // TUPLE1
    case 0x86: return push(pop_count(2));                                 // TUPLE2
    case 0x87: return push(pop_count(3));                                 // TUPLE3
    case 'q': { const uint32_t i = read<uint8_t>(); memo_[i] = top(); return; }  // BINPUT
    case 'r': { const uint32_t i = read<uint32_t>(); memo_[i] = top(); return; } // LONG_BINPUT
    case 'h': return recall(read<uint8_t>());                             // BINGET
    case 'j': return recall(read<uint32_t>());                            // LONG_BINGET
    case 's': return set_items(pop_count(2));                             // SETITEM
    case 'u': return set_items(pop_to_mark());                            // SETITEMS
    case 'a': return append(pop_count(1));                                // APPEND
    case 'e': return append(pop_to_mark());                               // APPENDS
    case 'c': return push_global();                                       // GLOBAL
    case 'Q': return push_storage();                                      // BINPERSID
    case 'R': return reduce();                                            // REDUCE
    case 'b': return build();                                             // BUILD
    // clang-format on
    default:
      throw FormatError("its list of tensors is not of the kind that torch.save writes (instruction " +
                        std::to_string(static_cast<unsigned char>(op)) + " at byte " + std::to_string(at_ - 1) + ")");
  }
}

void PickleReader::recall(uint32_t index) {
  const auto found = memo_.find(index);
  if (found == memo_.end()) throw FormatError("its list of tensors is damaged: it uses a value that it does not have");
  stack_.push_back(found->second);
}

void PickleReader::set_items(const Items& values) {
  Dict& dict = as<Dict>(top(), "a dictionary");
  if (values.size() % 2 != 0) throw FormatError("its list of tensors is damaged: a key without a value");
  for (size_t i = 0; i < values.size(); i += 2) dict.emplace_back(values[i], values[i + 1]);
}

void PickleReader::append(const Items& values) {
  Items& list = as<Items>(top(), "a list");
  list.insert(list.end(), values.begin(), values.end());
}

void PickleReader::push_long() {
  const uint8_t count = read<uint8_t>();
  if (count > sizeof(int64_t)) throw FormatError("its list of tensors holds a number beyond 64 bits");
  const std::string_view digits = take(count);
  const bool negative = count > 0 && (static_cast<unsigned char>(digits.back()) & 0x80) != 0;
  int64_t value = negative ? -1 : 0;
  std::memcpy(&value, digits.data(), count);  // little-endian, like this machine
  push(value);
}

void PickleReader::push_global() {
  const std::string_view module = take_line(), object = take_line();
  const std::string name = std::string(module) + "." + std::string(object);
  if (name != kOrderedDict && name != kRebuildTensor && name != kRebuildParameter && !storage_dtype(name)) {
    throw FormatError("holds the object " + json_excerpt(name) + ", expected plain tensors only");
  }
  push(Global{name});
}

// The argument is ("storage", class, key, device, number of elements).
void PickleReader::push_storage() {
  const Items& id = as<Items>(pop(), "a storage");
  if (id.size() != 5) throw FormatError("its list of tensors is damaged: a storage of another kind");
  const std::optional<at::ScalarType> dtype = storage_dtype(as<Global>(id[1], "a storage's class").name);
  if (!dtype) throw FormatError("its list of tensors is damaged: a storage of no dtype");
  const std::string& key = as<std::string>(id[2], "a storage's name");
  if (key.size() > kLongestKey) throw FormatError("its list of tensors is damaged: a storage's name is too long");
  push(std::make_shared<const Storage>(Storage{key, *dtype, as<int64_t>(id[4], "a size")}));
}

void PickleReader::reduce() {
  const Items& arguments = as<Items>(pop(), "arguments");
  const std::string& name = as<Global>(pop(), "a class").name;
  const auto numbers = [](Value tuple) {
    const Items& items = as<Items>(tuple, "sizes");
    if (items.size() > kMostDimensions) throw FormatError("holds " + dimensions_text(items.size()));
    std::vector<int64_t> values;
    values.reserve(items.size());
    for (const Value value : items) values.push_back(as<int64_t>(value, "a size"));
    return values;
  };
  if (name == kOrderedDict && arguments.empty()) return push(Dict{});
  if (name == kRebuildParameter && !arguments.empty()) return stack_.push_back(arguments[0]);
  if (name == kRebuildTensor && arguments.size() >= 4) {
    const Storage& storage = *as<std::shared_ptr<const Storage>>(arguments[0], "a storage");
    return push(std::make_shared<const PickledTensor>(PickledTensor{storage.key, storage.dtype, storage.numel,
                                                                    as<int64_t>(arguments[1], "an offset"),
                                                                    numbers(arguments[2]), numbers(arguments[3])}));
  }
  throw FormatError("its list of tensors is damaged: " + json_excerpt(name) + " with " +
                    std::to_string(arguments.size()) + " arguments");
}

// A state_dict() carries the versions of its modules as an attribute of the dictionary, which we do not need.
void PickleReader::build() {
  pop();
  as<Dict>(top(), "a dictionary");
}

}  // namespace

PickledTensors read_state_dict(std::string_view pickle) {
  if (pickle.size() > kLongestPickle) {
    throw FormatError("its list of tensors has " + std::to_string(pickle.size()) + " bytes, expected at most " +
                      std::to_string(kLongestPickle));
  }
  PickleReader reader(pickle);
  const Value root = reader.run();
  const Dict* dict = std::get_if<Dict>(&root->data);
  if (dict == nullptr) throw FormatError("holds " + kind_of(*root) + ", expected a dictionary of tensors");
  PickledTensors tensors;
  std::unordered_set<Value> seen;  // the keys; many entries may share one
  for (auto entry = dict->rbegin(); entry != dict->rend(); ++entry) {
    const auto [key, value] = *entry;
    const std::string* name = std::get_if<std::string>(&key->data);
    if (name == nullptr) throw FormatError("holds " + kind_of(*key) + " as a key, expected tensors' names");
    const auto* tensor = std::get_if<std::shared_ptr<const PickledTensor>>(&value->data);
    if (tensor == nullptr) {
      throw FormatError("holds " + kind_of(*value) + " under " + json_excerpt(*name) + ", expected a tensor");
    }
    if (seen.insert(key).second) tensors.try_emplace(*name, *tensor);  // of equal keys the last counts, as in Python
  }
  return tensors;
}

}  // namespace opensora::io
