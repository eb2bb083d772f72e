// Which instructions this process may use. Chosen once, at run time; MODEL_FORENSICS_ISA=portable|avx2|avx512 lowers it.
//
// Fast paths are functions with __attribute__((target(...))) beside the portable one, in the same file: no file is
// compiled with flags of its own, so no inline function of the standard library can come out with instructions that
// another machine lacks. Every path gives the same bits.
#pragma once

namespace model_forensics {

enum class Isa : int { portable = 0, avx2 = 1, avx512 = 2 };

// The best that this machine has: avx2 = AVX2 + FMA + BMI2; avx512 = F, BW, CD, DQ, VL (x86-64-v4).
Isa detected_isa();

// What operations use now. Throws std::invalid_argument when MODEL_FORENSICS_ISA names none of the three; more than this
// machine has is no error, for the variable is an upper limit.
Isa isa();

// Whether operations may use, besides AVX-512, what Ice Lake and Zen 4 added to it for bytes: VBMI, VNNI, BITALG, GFNI.
bool avx512_bytes();

// Lower (or raise again) what operations use; throws std::invalid_argument above detected_isa().
void use_isa(Isa wanted);

}  // namespace model_forensics
