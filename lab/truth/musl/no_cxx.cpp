// In place of cxx_family.cpp where there is no C++ library (Debian has none for musl).
#include "../families.hpp"

#include <cstdlib>

void prepare_cxx_family() {}
void run_cxx_family() {}

// books.cpp names them; nothing is ever given back through them here.
void operator delete(void *) noexcept { std::abort(); }
void operator delete[](void *) noexcept { std::abort(); }
