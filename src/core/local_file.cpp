#include "core/local_file.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <string_view>

#include "core/text.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

// "https" for "HTTPS://…", or nothing. A single letter is the name of a drive, not a scheme.
std::string scheme_of(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon < 2 || std::isalpha(static_cast<unsigned char>(text[0])) == 0) return {};
  const std::string_view scheme = text.substr(0, colon);
  const bool is_scheme = std::all_of(scheme.begin(), scheme.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '+' || c == '-' || c == '.';
  });
  return is_scheme ? to_lower(scheme) : std::string();
}

int hex_digit(char c) {
  const std::string_view digits = "0123456789abcdef";
  const size_t found = digits.find(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  return found == std::string_view::npos ? -1 : static_cast<int>(found);
}

// "%20" -> " ". Anything else stays as it is, and so does %00, which no file name can contain.
std::string decode_percent(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool has_code = text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
                          hex_digit(text[i + 2]) >= 0 && text.substr(i, 3) != "%00";
    if (has_code) {
      decoded += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

// The path in a file URL of this machine; nullopt for anything else.
std::optional<fs::path> file_url_path(std::string_view text) {
  if (scheme_of(text) != "file") return std::nullopt;
  text.remove_prefix(text.find(':') + 1);
  if (text.starts_with("//")) {
    const size_t slash = text.find('/', 2);
    const std::string host = to_lower(text.substr(2, slash == std::string_view::npos ? slash : slash - 2));
    if (slash == std::string_view::npos || (!host.empty() && host != "localhost")) return std::nullopt;
    text.remove_prefix(slash);
  }
  return decode_percent(text);
}

bool is_there(const fs::path& path) {
  std::error_code error;  // for example, a name that is too long
  return fs::exists(path, error);
}

}  // namespace

fs::path local_file(const std::string& given, const fs::path& folder) {
  fs::path plain = folder / given;
  if (is_there(plain)) return plain;
  if (const std::optional<fs::path> path = file_url_path(given)) return folder / *path;
  return is_remote_url(given) ? fs::path(given) : plain;
}

bool is_remote_url(const std::string& given) {
  // In "name:rest" only well-known schemes count, since file names may contain colons too.
  constexpr std::array<std::string_view, 30> kSchemes = {
      "http", "https", "ftp", "ftps", "sftp", "rtsp", "rtsps", "rtmp", "rtmps", "rtp",
      "mms",  "srt",   "udp", "tcp",  "tls",  "smb",  "nfs",   "dav",  "davs",  "ssh",
      "scp",  "s3",    "gs",  "hf",   "ipfs", "data", "blob",  "pipe", "fd",    "concat"};
  const std::string scheme = scheme_of(given);
  if (scheme.empty() || is_there(given)) return false;
  if (scheme == "file") return !file_url_path(given).has_value();
  const bool is_known = std::find(kSchemes.begin(), kSchemes.end(), scheme) != kSchemes.end();
  return is_known || std::string_view(given).substr(scheme.size()).starts_with("://");
}

std::string remote_url_advice(const std::string& url) {
  const std::string scheme = scheme_of(url);
  if (scheme == "file") {
    return "is a file of another machine; only local files are read: copy it here and give its path";
  }
  if (scheme == "data" || scheme == "blob" || scheme == "pipe" || scheme == "fd" || scheme == "concat") {
    return "is a URL; only local files are read: save it as a file and give that";
  }
  return "is a URL; only local files are read: download it and give the file";
}

std::string shorten_url(const std::string& url) {
  constexpr size_t kLongest = 200;
  return url.size() <= kLongest ? url : std::string(cut_utf8(url, kLongest)) + "…";
}

namespace {

constexpr const char* kNowhere = "/proc/self/fdinfo";

}  // namespace

// Neither the C library nor a sanitizer is ready yet, so this makes nothing but system calls.
__attribute__((no_sanitize("address", "undefined"))) void leave_removed_folder(int /*argc*/, char** /*argv*/,
                                                                               char** /*environment*/) {
  static char path[4096];
  const long length = ::syscall(SYS_getcwd, path, sizeof path);
  const bool is_reachable = length > 0 && path[0] == '/';  // otherwise "(unreachable)/…" or nothing
  [[maybe_unused]] const int result = is_reachable ? 0 : ::chdir(kNowhere);
}

// Told by where we are: the program may have started itself anew (cli/patient_threads.h).
bool working_folder_is_removed() {
  char path[4096];
  const long length = ::syscall(SYS_getcwd, path, sizeof path);
  return length > 0 && "/proc/" + std::to_string(::getpid()) + "/fdinfo" == path;
}

}  // namespace opensora
