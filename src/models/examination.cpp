#include "models/examination.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <variant>

#include "io/inspect.h"
#include "opensora/error.h"

namespace opensora::models {
namespace {

namespace fs = std::filesystem;
using autoencoder::Half;

// Adds each line of an error as a problem of its own if the error is a list, whose first line is a headline.
void add_problems(std::vector<std::string>& problems, const std::string& error) {
  std::istringstream lines(error);
  std::string headline, line;
  std::getline(lines, headline);
  const size_t before = problems.size();
  while (std::getline(lines, line)) problems.push_back(line.substr(std::min(line.find_first_not_of(' '), line.size())));
  if (problems.size() == before) problems.push_back(headline);
}

// What io::recognise() calls the model that the configuration asks for, or the end of that name.
std::string_view expected_kind(Component component, const Config& config) {
  switch (component) {
    case Component::kAe:
      return std::holds_alternative<DCAEConfig>(config.ae) ? "DC-AE" : "HunyuanVAE";
    case Component::kClip:
      return "CLIP text encoder";
    case Component::kT5:
      return "T5 encoder";
    case Component::kImgFluxAe:
      return "FLUX autoencoder";
    case Component::kTinyAe:
      return "TAEHV";
    default:
      return "transformer";
  }
}

// Whether what io::recognise() found is the model that the configuration asks for, as far as its name says.
bool is_kind(const std::string& held, std::string_view kind) {
  return held.ends_with(kind) || (kind == "HunyuanVAE" && held == "TAEHV");
}

// One component while it is examined. Each step may fail on its own; what depends on it is then skipped.
class Examiner {
 public:
  Examiner(Component component, const ModelChoice& choice, const ExamineOptions& options)
      : component_(component), choice_(choice), options_(options) {
    found.result.name = component_name(component);
  }

  void run();

  Examination found;

 private:
  template <typename Step>
  auto attempt(Step&& step) -> std::optional<decltype(step())> {
    try {
      return std::forward<Step>(step)();
    } catch (const InterruptedError&) {  // nothing is wrong with the files
      throw;
    } catch (const MissingComponentError& error) {
      found.missing.push_back(error.line());
      note(error);
    } catch (const Error& error) {
      note(error);
    }
    return std::nullopt;
  }
  template <typename Check>
  void check(Check&& check) {
    attempt([&] {
      check();
      return true;
    });
  }
  void note(const Error& error) {
    found.errors.emplace_back(error.what());
    add_problems(found.result.problems, error.what());
  }

  void open(const fs::path& path);
  void add_file(const fs::path& file);
  // Examines what a text encoder has beside its weights. Returns false if the weights cannot be bound.
  bool examine_text_parts(const ComponentFiles& files, TextSizes& sizes);
  void bind(const TextSizes& sizes);

  Component component_;
  const ModelChoice& choice_;
  const ExamineOptions& options_;
};

void Examiner::open(const fs::path& path) {
  found.result.path = path;
  found.checkpoint = attempt([&] { return io::Checkpoint::open(path); }).value_or(nullptr);
  if (!found.checkpoint) return;
  found.headers = std::make_shared<io::HeaderSource>(found.checkpoint, options_.warns_unused);
  for (const fs::path& file : found.checkpoint->files()) add_file(file);
  const std::string prefix = found.checkpoint->stripped_prefix();
  if (prefix.empty()) return;
  const std::vector<std::string>& others = found.checkpoint->other_prefixes();
  spdlog::info(
      "{}: names are behind \"{}\"{}", path.string(), prefix,
      others.empty() ? "" : fmt::format("; another copy, behind \"{}\", is not used", fmt::join(others, ", ")));
}

void Examiner::add_file(const fs::path& file) {
  std::error_code unreadable;
  if (!fs::is_regular_file(file, unreadable)) return;
  found.result.files.push_back({file, static_cast<int64_t>(fs::file_size(file, unreadable)), ""});
}

void Examiner::bind(const TextSizes& sizes) {
  // A run uses only the decoders of FLUX's autoencoder and of that for previews.
  const bool only_decodes = component_ == Component::kImgFluxAe || component_ == Component::kTinyAe;
  const Half half = only_decodes ? Half::kDecoder : options_.half;
  check([&] {
    try {
      bind_model(component_, Weights(found.headers, at::kMeta, at::kBFloat16), choice_.config, half, sizes);
    } catch (const CheckpointError&) {
      // For a model of another kind the error would be one long list of missing tensors.
      const std::string_view kind = expected_kind(component_, choice_.config);
      const std::string held = io::recognise(*found.checkpoint).name;
      if (held == "TAEHV" && half != Half::kDecoder && !found.checkpoint->contains("encoder.0.weight")) {
        throw CheckpointError(found.checkpoint->description() +
                              ": a TAEHV without its encoder, which a video that starts from an image or a video "
                              "needs; give the whole file, or the real autoencoder, with `vae`");
      }
      if (held == "unknown" || is_kind(held, kind)) throw;
      throw CheckpointError(fmt::format("{}: holds another model ({}), expected \"{}\", a {}",
                                        found.checkpoint->description(), held, found.result.name, kind));
    }
  });
  for (const MetaSource::Entry& tensor : found.headers->requested()) {
    ++found.result.tensors;
    found.result.parameters += tensor.elements();
  }
}

bool Examiner::examine_text_parts(const ComponentFiles& files, TextSizes& sizes) {
  if (!files.config_folder.empty()) add_file(files.config_folder / "config.json");
  const bool is_t5 = component_ == Component::kT5;
  for (const char* name : is_t5 ? std::vector{"spiece.model"} : std::vector{"vocab.json", "merges.txt"}) {
    add_file(files.tokenizer_folder / name);
  }
  auto tokenizer = attempt([&] { return open_tokenizer(component_, files.tokenizer_folder); });
  if (!found.checkpoint) return false;
  const auto read = attempt([&] { return read_text_sizes(component_, files, *found.checkpoint); });
  if (!read) return false;
  sizes = *read;
  check([&] { check_text_sizes(component_, files, sizes, choice_.config); });
  if (tokenizer) check([&] { check_vocabulary(files, *tokenizer, sizes); });
  if (tokenizer && options_.tokenizers != nullptr) options_.tokenizers->emplace(component_, *std::move(tokenizer));
  return true;
}

void Examiner::run() {
  const auto files = attempt([&] { return locate(component_, choice_); });
  if (!files) return;
  open(files->weights);
  TextSizes sizes;
  const bool is_text = component_ == Component::kT5 || component_ == Component::kClip;
  if (is_text && !examine_text_parts(*files, sizes)) return;
  if (found.checkpoint) bind(sizes);
}

// Puts a list on one line.
std::string on_one_line(const std::string& error) {
  std::string line;
  std::istringstream parts(error);
  int count = 0;
  for (std::string part; std::getline(parts, part); ++count) {
    line += (count == 0   ? ""
             : count == 1 ? ": "
                          : "; ") +
            part.substr(std::min(part.find_first_not_of(' '), part.size()));
  }
  return line;
}

// Empty if the folder is not installed; then there is no demo model either.
fs::path bundled_configs() {
  try {
    return bundled_configs_dir();
  } catch (const UsageError&) {
    return {};
  }
}

std::string config_label(const Config& config) {
  const fs::path file = config.name;
  std::error_code unreadable;
  const bool is_bundled = fs::equivalent(file.parent_path(), bundled_configs(), unreadable);
  return is_bundled ? file.stem().string() : config.name;
}

}  // namespace

std::string other_configuration(const ModelChoice& choice) {
  const auto& [model_dir, config, files] = choice;
  const fs::path own = model_dir / "config.json";
  std::error_code unreadable;
  if (!fs::exists(own, unreadable) || fs::equivalent(own, config.name, unreadable)) return "";
  if (is_demo_folder(model_dir)) {
    return fmt::format(
        "the demo model has one configuration, its own, and cannot be used with {}: that needs the "
        "published weights, in a folder given with `model_dir` (see \"Real videos\" in the README); "
        "opensora plan says what they take",
        config_label(config));
  }
  return fmt::format("{} has a configuration of its own, {}, and was used with {}: leave out `config`",
                     model_dir.string(), own.filename().string(), config_label(config));
}

Examination examine(Component component, const ModelChoice& choice, const ExamineOptions& options) {
  Examiner examiner(component, choice, options);
  examiner.run();
  return std::move(examiner.found);
}

Tokenizers check_models(const std::vector<Component>& components, const ModelChoice& choice, Half half) {
  Tokenizers tokenizers;
  std::vector<std::string> errors, lines;
  size_t missing = 0;
  for (const Component component : components) {
    const Examination found = examine(component, choice, {half, /*warns_unused=*/false, &tokenizers});
    if (found.errors.empty()) continue;
    errors.insert(errors.end(), found.errors.begin(), found.errors.end());
    missing += found.missing.size();
    std::string line = found.result.name + ": ";
    if (!found.missing.empty()) {
      line += fmt::format("{}", fmt::join(found.missing, "; "));
    } else {
      for (const std::string& error : found.errors) line += (line.ends_with(": ") ? "" : "; ") + on_one_line(error);
    }
    lines.push_back(std::move(line));
  }
  if (errors.empty()) return tokenizers;
  const std::string other = other_configuration(choice);
  const bool is_demo = other.starts_with("the demo model");
  if (is_demo && missing == 0) throw CheckpointError(other);
  const bool advises = !other.empty() && (is_demo || missing == 0);  // files that are missing explain themselves
  const std::string advice = advises ? "\n  " + other : "";
  if (errors.size() == 1) throw CheckpointError(errors.front() + advice);
  std::string headline =
      fmt::format("model folder {}: {} of the {} models of {} cannot be used", choice.model_dir.string(), lines.size(),
                  components.size(), config_label(choice.config));
  if (missing > 0) headline += "; names like \"hpcai-tech/Open-Sora-v2\" are repositories of the Hugging Face hub";
  throw CheckpointError(fmt::format("{}\n  {}{}", headline, fmt::join(lines, "\n  "), advice));
}

}  // namespace opensora::models
