// Loops over floats that the compiler vectorises, once for each generation of x86 processors; the fitting version is
// chosen as the program is loaded.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define OPENSORA_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define OPENSORA_MULTIVERSION
#endif
