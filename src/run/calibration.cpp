#include "run/calibration.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "core/json_text.h"
#include "opensora/error.h"
#include "opensora/process.h"
#include "sampling/condition.h"

namespace opensora::run {
namespace {

constexpr int kCalibrationVersion = 1;

bool is_point(const nlohmann::json& point) {
  return point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number();
}

}  // namespace

nlohmann::ordered_json calibration_json(const Job& job, const sampling::ChangeCurve& changes) {
  const SamplingConfig& s = job.request.config.sampling;
  nlohmann::ordered_json table = {{"schema_version", kCalibrationVersion},
                                  {"program", "opensora"},
                                  {"version", version()},
                                  {"condition", sampling::condition_name(job.condition)},
                                  {"width", job.size.width},
                                  {"height", job.size.height},
                                  {"frames", s.num_frames},
                                  {"steps", s.num_steps},
                                  {"guidance", s.guidance},
                                  {"guidance_img", s.guidance_img.value_or(1)},
                                  {"changes", nlohmann::ordered_json::array()}};
  for (const auto& [time, change] : changes.points()) table["changes"].push_back({time, change});
  return table;
}

sampling::ChangeCurve read_calibration(const std::filesystem::path& file) {
  const auto refuse = [&](const std::string& why) { throw UsageError(file.string() + ": " + why); };
  nlohmann::json table;
  try {
    table = read_json_file(file);
  } catch (const JsonError& error) {
    refuse(error.what());
  }
  if (!table.is_object() || table.value("program", nlohmann::json()) != "opensora" || !table["changes"].is_array()) {
    refuse("expected a table of opensora calibrate, found " + json_excerpt(table));
  }
  if (table["schema_version"] != kCalibrationVersion) {
    refuse(fmt::format("its schema_version is {}, this program knows {}", json_excerpt(table["schema_version"]),
                       kCalibrationVersion));
  }
  std::vector<sampling::ChangeCurve::Point> points;
  for (const nlohmann::json& point : table["changes"]) {
    if (!is_point(point)) refuse("\"changes\": expected pairs of numbers, found " + json_excerpt(point));
    points.push_back({point[0], point[1]});
  }
  try {
    return sampling::ChangeCurve(std::move(points));
  } catch (const UsageError& error) {
    refuse(std::string("\"changes\": ") + error.what());
    throw;
  }
}

}  // namespace opensora::run
