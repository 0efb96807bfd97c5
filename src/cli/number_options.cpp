#include "cli/number_options.h"

#include <fmt/format.h>

#include <functional>
#include <string_view>
#include <type_traits>

#include "core/byte_size.h"
#include "core/number_text.h"
#include "opensora/error.h"
#include "opensora/limits.h"

namespace opensora::cli {
namespace {

// "-W,--width" -> "--width"
std::string long_name(const std::string& names) {
  const size_t comma = names.rfind(',');
  return comma == std::string::npos ? names : names.substr(comma + 1);
}

// "10,30", where the command could make a video of each.
bool is_list_of_settings(const CLI::App& command, const std::string& flag, const std::string& text) {
  if (command.get_option_no_throw("--prompts-file") == nullptr || text.find(',') == std::string::npos) return false;
  const std::string& group = command.get_option(flag)->get_group();
  return group == "Video" || group == "Sampling" || flag == "--crf";
}

[[noreturn]] void refuse(const CLI::App& command, const std::string& flag, const std::string& expected,
                         const std::string& text) {
  const std::string hint = is_list_of_settings(command, flag, text)
                               ? "; for several settings give a --prompts-file with a row for each"
                               : "";
  throw UsageError(fmt::format("{}: expected {}, found \"{}\"{}", flag, expected, text, hint));
}

CLI::Option* add_number(CLI::App& command, const std::string& names, const char* type, const std::string& description,
                        const std::function<void(const std::string& flag, const std::string& text)>& parse) {
  return command
      .add_option_function<std::string>(
          names, [parse, flag = long_name(names)](const std::string& text) { parse(flag, text); }, description)
      ->type_name(type);
}

std::optional<PixelSize> parse_size(std::string_view text) {
  const size_t cross = text.find('x');
  if (cross == std::string_view::npos) return std::nullopt;
  const auto width = parse_whole<int64_t>(text.substr(0, cross)), height = parse_whole<int64_t>(text.substr(cross + 1));
  const auto is_side = [](const std::optional<int64_t>& side) { return side && *side >= 1 && *side <= kMaxEdge; };
  return is_side(width) && is_side(height) ? std::optional(PixelSize{*width, *height}) : std::nullopt;
}

template <typename Target>
CLI::Option* add_whole_number(CLI::App& command, const std::string& names, Target& target, WholeRange range,
                              const std::string& description) {
  const auto parse = [&command, &target, range](const std::string& flag, const std::string& text) {
    const std::optional<int64_t> value = parse_whole<int64_t>(text);
    if (!value || *value < range.min || *value > range.max) {
      refuse(command, flag, fmt::format("a whole number from {} to {}", range.min, range.max), text);
    }
    if constexpr (std::is_same_v<Target, int>) {
      target = static_cast<int>(*value);
    } else {
      target = *value;
    }
  };
  return add_number(command, names, "INT", fmt::format("{}; {} to {}", description, range.min, range.max), parse);
}

// "7,5" -> "7.5", if that is what is meant.
std::string with_a_point(const std::string& text) {
  const size_t comma = text.find(',');
  std::string changed = text;
  if (comma != std::string::npos) changed[comma] = '.';
  return comma != std::string::npos && parse_decimal(changed) ? changed : "";
}

template <typename Target>
CLI::Option* add_real_number(CLI::App& command, const std::string& names, Target& target, RealRange range,
                             const std::string& description) {
  const auto parse = [&command, &target, range](const std::string& flag, const std::string& text) {
    const std::optional<double> value = parse_decimal(text);
    if (!value || *value < range.min || *value > range.max) {
      const std::string expected = fmt::format("a number from {:g} to {:g}, such as 7.5", range.min, range.max);
      const std::string meant = with_a_point(text);
      if (meant.empty()) refuse(command, flag, expected, text);
      throw UsageError(fmt::format("{}: expected {}, found \"{}\"; use a point, {}", flag, expected, text, meant));
    }
    target = *value;
  };
  return add_number(command, names, "FLOAT", fmt::format("{}; {:g} to {:g}", description, range.min, range.max), parse);
}

}  // namespace

CLI::Option* add_whole(CLI::App& command, const std::string& names, int& target, WholeRange range,
                       const std::string& description) {
  return add_whole_number(command, names, target, range, description);
}

CLI::Option* add_whole(CLI::App& command, const std::string& names, int64_t& target, WholeRange range,
                       const std::string& description) {
  return add_whole_number(command, names, target, range, description);
}

CLI::Option* add_whole(CLI::App& command, const std::string& names, std::optional<int64_t>& target, WholeRange range,
                       const std::string& description) {
  return add_whole_number(command, names, target, range, description);
}

CLI::Option* add_real(CLI::App& command, const std::string& names, double& target, RealRange range,
                      const std::string& description) {
  return add_real_number(command, names, target, range, description);
}

CLI::Option* add_real(CLI::App& command, const std::string& names, std::optional<double>& target, RealRange range,
                      const std::string& description) {
  return add_real_number(command, names, target, range, description);
}

CLI::Option* add_seed(CLI::App& command, const std::string& names, uint64_t& target, const std::string& description) {
  const auto parse = [&command, &target](const std::string& flag, const std::string& text) {
    const std::optional<uint64_t> value = parse_whole<uint64_t>(text);
    if (!value) refuse(command, flag, "a whole number from 0 to 18446744073709551615", text);
    target = *value;
  };
  return add_number(command, names, "INT", description, parse);
}

CLI::Option* add_frame_rate(CLI::App& command, const std::string& names, std::optional<FrameRate>& target,
                            const std::string& description) {
  const auto parse = [&command, &target](const std::string& flag, const std::string& text) {
    target = parse_frame_rate(text);
    if (!target) refuse(command, flag, kFrameRateExpected, text);
  };
  return add_number(command, names, "RATE", description, parse);
}

CLI::Option* add_size(CLI::App& command, const std::string& names, std::optional<PixelSize>& target,
                      const std::string& description) {
  const auto parse = [&command, &target](const std::string& flag, const std::string& text) {
    target = parse_size(text);
    if (!target) refuse(command, flag, fmt::format("WIDTHxHEIGHT, such as 512x288, each from 1 to {}", kMaxEdge), text);
  };
  return add_number(command, names, "WxH", description, parse);
}

CLI::Option* add_size_or_none(CLI::App& command, const std::string& names, std::optional<PixelSize>& target,
                              bool& is_none, const std::string& description) {
  const auto parse = [&command, &target, &is_none](const std::string& flag, const std::string& text) {
    is_none = text == "none";
    target = is_none ? std::nullopt : parse_size(text);
    if (target || is_none) return;
    refuse(command, flag, fmt::format("WIDTHxHEIGHT, such as 512x288, each from 1 to {}, or none", kMaxEdge), text);
  };
  return add_number(command, names, "WxH", description, parse);
}

CLI::Option* add_bytes(CLI::App& command, const std::string& names, int64_t& target, const std::string& description) {
  const auto parse = [&target](const std::string& flag, const std::string& text) { target = parse_bytes(flag, text); };
  return add_number(command, names, "BYTES", description, parse);
}

}  // namespace opensora::cli
