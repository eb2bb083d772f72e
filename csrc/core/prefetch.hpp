// Asks for memory that will be read or changed soon, where a processor cannot foresee the address; changes no result.
#pragma once

namespace model_forensics {

inline void prefetch(const void* address) {
#ifdef __GNUC__
  __builtin_prefetch(address);
#else
  static_cast<void>(address);
#endif
}

}  // namespace model_forensics
