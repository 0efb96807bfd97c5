// What users type for a file: a path, or a file URL as file managers and browsers copy it; and the current folder, from
// which relative paths go, where that was removed.
#pragma once

#include <filesystem>
#include <string>

namespace opensora {

// The file that `given` means, from `folder` on if it is relative. In this order: a file that is there under just that
// name, whatever it looks like; a file URL of this machine (file:///a%20b.png, file:/a.png, file://localhost/a.png,
// file:a.png), decoded; a URL of any other kind, as it is (see remote_url()); a path.
std::filesystem::path local_file(const std::string& given, const std::filesystem::path& folder = {});

// Whether local_file() left it for a URL of something that is not on this machine, or no file: "https://…", "s3://…",
// "data:…", "file://server/…".
bool is_remote_url(const std::string& given);

// For such a URL, without its name in front: what to do.
std::string remote_url_advice(const std::string& url);

// The same name, cut where it is of no use to a reader (data URLs hold whole files).
std::string shorten_url(const std::string& url);

// For main's .preinit_array: where the program was started in a folder that is gone, goes to one that is always there,
// and in which no file can be found or made. Intel's MKL ends the process otherwise as it is loaded.
void leave_removed_folder(int argc, char** argv, char** environment);

// Whether that happened: relative paths name nothing.
bool working_folder_is_removed();

}  // namespace opensora
