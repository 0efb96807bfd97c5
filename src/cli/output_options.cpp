#include "cli/output_options.h"

#include "cli/number_options.h"
#include "cli/validators.h"
#include "opensora/error.h"
#include "opensora/limits.h"

namespace opensora::cli {

void add_video_options(CLI::App& command, GenerateRequest& request) {
  const char* group = "Output";
  command.add_option("--codec", request.codec, "h264, h265, or ffv1 (lossless, .mkv or .mov)")
      ->check(one_of({"h264", "h265", "ffv1"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--pix-fmt", request.pix_fmt,
                  "FFmpeg's name of a pixel format that the codec takes: yuv420p (default), yuv444p, yuv420p10le, …; "
                  "rgb: the codec's RGB (default of ffv1)")
      ->group(group);
  command.add_option("--contact-sheet", request.contact_sheet, "Also write up to 12 frames side by side into this PNG")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--save-frames", request.save_frames, "Also write each frame as frame-00001.png, … to this folder")
      ->type_name("DIR")
      ->group(group);
  add_whole(command, "--preview-every", request.preview_every, {0, kMaxSteps},
            "After every so many steps, write what the video will be to <output>.preview.png; removed at the end")
      ->group(group);
  command
      .add_flag("--strict", request.strict,
                "Exit with 8 if the video is all black, all of one colour or frozen; the file is kept")
      ->group(group);
}

void check_video_options(const CLI::App& command, const GenerateRequest& request) {
  if (request.codec == "ffv1" && command.count("--crf") > 0) {
    throw UsageError("--crf: ffv1 is lossless and has no quality to set; leave --crf out or give --codec h264");
  }
}

}  // namespace opensora::cli
