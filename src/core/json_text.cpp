#include "io/json_text.h"

#include <set>
#include <vector>

namespace opensora::io {
namespace {

using nlohmann::json;

std::string shorten(std::string text, size_t limit) {
  if (text.size() > limit) text = text.substr(0, limit) + "...";
  return text;
}

}  // namespace

std::string json_error_text(const json::exception& error) {
  std::string text = error.what();
  const size_t end = text.find("] ");
  if (text.starts_with("[json.exception") && end != std::string::npos) text.erase(0, end + 2);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  return shorten(text, 300);
}

json parse_json(std::string_view text) {
  std::vector<std::set<std::string>> open_objects;  // the keys seen so far, of each object around the parser's place
  const auto refuse_duplicates = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == json::parse_event_t::object_end) open_objects.pop_back();
    if (event == json::parse_event_t::key && !open_objects.back().insert(value.get<std::string>()).second) {
      throw JsonError("duplicate key " + json_excerpt(value));
    }
    return true;
  };
  try {
    return json::parse(text, refuse_duplicates);
  } catch (const json::exception& error) {
    throw JsonError(json_error_text(error));
  }
}

std::string json_excerpt(const json& value) {
  return shorten(value.dump(-1, ' ', false, json::error_handler_t::replace), 100);
}

}  // namespace opensora::io
