// The levels of instructions that this machine has.
#pragma once

#include <vector>

#include "pass.h"

namespace stepfit {

struct Level {
  const char* name;
  Pass* (*label)(const Job&, int threads);
  Pass* (*measure)(const Distances&, int threads);
  Pass* (*closer)(const Closer&, int threads);
  Pass* (*extremes)(Extremes&, int threads);
  Pass* (*finish)(Finish&, int threads);
  const char* (*path)(const Job&);
};

// The best last.
std::vector<Level> levels();

}  // namespace stepfit
