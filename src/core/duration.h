// Times for people.
#pragma once

#include <string>

namespace opensora {

// "12 s", "4 min", "3 h 20 min", "5 days": as exact as a guess may be.
std::string format_duration(double seconds);

// The local time in so many seconds: "15:42"; on another day "Fri 03:10"; after that the date.
std::string local_time_in(double seconds);

}  // namespace opensora
