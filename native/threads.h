// Run a pass on some threads, and let the caller break it off between two blocks.
#pragma once

#include <functional>

#include "pass.h"

namespace stepfit {

// `interrupted` is asked now and then, on the calling thread; returns false when it broke the pass off.
bool run(Pass& pass, int64_t rows, int threads, const std::function<bool()>& interrupted);

}  // namespace stepfit
