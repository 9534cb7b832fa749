// The parts of the truth program, each in the file of its name.
#pragma once
#include <cstddef>
// c_family.cpp
void prepare_c_family();
void run_c_family();
// cxx_family.cpp
void prepare_cxx_family();
void run_cxx_family();
// mappings.cpp
void run_mappings();
// threads.cpp
void run_threads();
// many.cpp
void run_many(std::size_t count);
void free_half_of_many();
void forget_many();
