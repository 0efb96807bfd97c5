// Loops over numbers for each generation of processors.
#pragma once

// Compiles a function once for each generation of x86 processors; the fitting version is chosen as the program is
// loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define OPENSORA_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define OPENSORA_MULTIVERSION
#endif
