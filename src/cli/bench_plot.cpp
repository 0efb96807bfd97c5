#include "cli/bench_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace opensora::cli {
namespace {

constexpr double kWidth = 640, kHeight = 480, kMargin = 60;  // pixels

struct Line {
  std::string name;
  std::vector<std::pair<double, double>> points;  // FLOPs and seconds, relative to the first
};

std::vector<Line> lines_of(const std::vector<ScalingPoint>& points) {
  std::vector<Line> lines;
  const ScalingPoint* first = nullptr;
  for (const ScalingPoint& point : points) {
    const std::string name = point.stage + " by " + point.quantity;
    if (lines.empty() || lines.back().name != name) {
      lines.push_back({name, {}});
      first = &point;
    }
    lines.back().points.emplace_back(point.flops / first->flops, point.seconds / first->seconds);
  }
  return lines;
}

// Both axes from 1 to the same power of two.
class Drawing {
 public:
  explicit Drawing(const std::vector<Line>& lines) {
    double highest = 2;
    for (const Line& line : lines) {
      for (const auto& [flops, seconds] : line.points) highest = std::max({highest, flops, seconds});
    }
    doublings_ = static_cast<int>(std::ceil(std::log2(highest)));
  }

  double x(double value) const { return kMargin + fraction(value) * (kWidth - 2 * kMargin); }
  double y(double value) const { return kHeight - kMargin - fraction(value) * (kHeight - 2 * kMargin); }

  std::string axes() const {
    std::string svg;
    for (int i = 0; i <= doublings_; ++i) {
      const double value = std::exp2(i);
      svg += fmt::format(
          "<path d=\"M{0:.1f} {2:.1f}V{3:.1f}M{4:.1f} {1:.1f}H{5:.1f}\" stroke=\"#ddd\"/>\n"
          "<text x=\"{0:.1f}\" y=\"{6:.1f}\" text-anchor=\"middle\">{7:g}</text>\n"
          "<text x=\"{8:.1f}\" y=\"{9:.1f}\" text-anchor=\"end\">{7:g}</text>\n",
          x(value), y(value), kMargin, kHeight - kMargin, kMargin, kWidth - kMargin, kHeight - kMargin + 18, value,
          kMargin - 8, y(value) + 4);
    }
    svg += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">FLOPs, relative to the smallest</text>\n"
        "<text transform=\"translate(18 {:.1f}) rotate(-90)\" text-anchor=\"middle\">seconds, likewise</text>\n"
        "<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\" stroke=\"#999\" stroke-dasharray=\"5 4\"/>\n",
        kWidth / 2, kHeight - 18, kHeight / 2, x(1), y(1), x(std::exp2(doublings_)), y(std::exp2(doublings_)));
    return svg;
  }

  std::string line(const Line& line, size_t index) const {
    constexpr const char* kColours[] = {"#1b6ca8", "#c0392b", "#27864a", "#8e5ea2"};
    const char* colour = kColours[index % std::size(kColours)];
    std::string path, marks;
    for (const auto& [flops, seconds] : line.points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(flops), y(seconds));
      marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", x(flops), y(seconds), colour);
    }
    return fmt::format(
        "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n{}"
        "<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\">{}</text>\n",
        path, colour, marks, kMargin + 12, kMargin + 18 + 18 * static_cast<double>(index), colour, line.name);
  }

 private:
  double fraction(double value) const { return std::log2(std::max(value, 1.0)) / doublings_; }
  int doublings_ = 1;
};

}  // namespace

std::string scaling_chart(const std::vector<ScalingPoint>& points) {
  constexpr double kLongest = 40;
  double highest = 0;
  for (const ScalingPoint& point : points) highest = std::max(highest, point.flops / point.seconds);
  std::string chart = "GFLOP/s; bars of one length: cost in proportion to work\n";
  for (const ScalingPoint& point : points) {
    const double rate = point.flops / point.seconds;
    const auto length = static_cast<size_t>(std::lround(kLongest * rate / highest));
    chart += fmt::format("{:<18}  {:>7}  {:>8.1f}  {}\n", point.stage + " by " + point.quantity, point.value,
                         rate / 1e9, std::string(length, '#'));
  }
  return chart;
}

std::string scaling_plot(const std::vector<ScalingPoint>& points) {
  const std::vector<Line> lines = lines_of(points);
  const Drawing drawing(lines);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" height=\"{1:g}\" "
      "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      kWidth, kHeight);
  svg += drawing.axes();
  for (size_t i = 0; i < lines.size(); ++i) svg += drawing.line(lines[i], i);
  return svg + "</svg>\n";
}

}  // namespace opensora::cli
