// The intrinsics of x86, where there are any. A function that uses them carries MODEL_FORENSICS_AVX512 or a target of
// its own.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define MODEL_FORENSICS_X86 1
#define MODEL_FORENSICS_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

// GCC 12 calls the values that its own header leaves undefined on purpose uninitialised.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif
