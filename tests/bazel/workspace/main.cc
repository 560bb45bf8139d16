#include <iostream>
#include "lib/greet.h"
int main() { std::cout << greet("Bazel") << std::endl; }
