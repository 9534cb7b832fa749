// Replaces cxx_family.cpp without a C++ library (Debian has none for musl).
#include "../families.hpp"

#include <cstdlib>

void prepare_cxx_family() {}
void run_cxx_family() {}

// Referenced by books.cpp, but never called here.
void operator delete(void *) noexcept { std::abort(); }
void operator delete[](void *) noexcept { std::abort(); }
