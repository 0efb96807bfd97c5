// ICC profiles: is it sRGB?
#pragma once

#include <string>

namespace opensora::media {

// Empty for a profile that is sRGB's in effect, whoever made it: of RGB, or of grey, with sRGB's primaries (within what
// vendors round differently) and its curve (within 2 % of what is encoded). Else how it calls itself, "Display P3", on
// one line; for one that is damaged or has no name: "a colour profile without a name".
std::string other_than_srgb(const std::string& icc);

}  // namespace opensora::media
