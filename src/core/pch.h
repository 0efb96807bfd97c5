// The precompiled header: what nearly every file of the library includes and what is slow to parse.
#pragma once

#include <ATen/ATen.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
