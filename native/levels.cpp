// Asks the processor, and the system through it, which registers and instructions there are.
#include "levels.h"

namespace stepfit {

#if defined(__x86_64__)
#define HAS(feature) (__builtin_cpu_supports(feature) != 0)
#endif

std::vector<Level> levels() {
  const bool generic = true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = HAS("avx2") && HAS("fma") && HAS("f16c");
  const bool avx512 = avx2 && HAS("avx512f") && HAS("avx512bw") && HAS("avx512dq") && HAS("avx512vl");
  const bool avx512vnni = avx512 && HAS("avx512vnni");
#endif
  std::vector<Level> found;
#define STEPFIT_ADD(level)                                                     \
  if (level) {                                                                 \
    using namespace level;                                                     \
    found.push_back({#level, label, measure, closer, extremes, finish, path}); \
  }
  STEPFIT_LEVELS(STEPFIT_ADD)
#undef STEPFIT_ADD
  return found;
}

}  // namespace stepfit
