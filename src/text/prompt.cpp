#include "text/prompt.h"

#include <fmt/format.h>
#include <unicode/regex.h>
#include <unicode/unistr.h>

#include "opensora/error.h"
#include "text/unicode.h"

namespace opensora::text {
namespace {

// As Python's str.strip().
icu::UnicodeString strip(const icu::UnicodeString& text) {
  int32_t begin = 0, end = text.length();
  while (begin < end && is_space(text.char32At(begin))) begin = text.moveIndex32(begin, 1);
  while (end > begin && is_space(text.char32At(end - 1))) end = text.moveIndex32(end, -1);
  return {text, begin, end - begin};  // a copy: the argument may be a temporary
}

bool ends_in_fps(const icu::UnicodeString& text) {
  UErrorCode status = U_ZERO_ERROR;
  icu::RegexMatcher matcher(UNICODE_STRING_SIMPLE("\\p{Nd} FPS\\.$"), text, 0, status);
  const bool found = matcher.find(status) != 0;
  if (U_FAILURE(status)) throw Error(ExitCode::kInternal, std::string("prompt suffix: ICU: ") + u_errorName(status));
  return found;
}

}  // namespace

std::string add_suffixes(const std::string& prompt, int64_t fps, const std::optional<std::string>& motion_score) {
  icu::UnicodeString text = strip(icu::UnicodeString::fromUTF8(prompt));
  if (!text.endsWith(u".")) text.append(u'.');
  std::string result;
  text.toUTF8String(result);
  if (!ends_in_fps(text)) result += fmt::format(" {} FPS.", fps);
  if (motion_score) result += fmt::format(" {} motion score.", *motion_score);
  return result;
}

std::string without_suffixes(std::string text, int64_t fps, const std::optional<std::string>& motion_score) {
  const auto drop = [&text](const std::string& suffix) {
    if (text.ends_with(suffix)) text.resize(text.size() - suffix.size());
  };
  if (motion_score) drop(fmt::format(" {} motion score.", *motion_score));
  drop(fmt::format(" {} FPS.", fps));
  return text;
}

}  // namespace opensora::text
