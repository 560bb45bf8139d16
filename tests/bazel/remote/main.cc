#include <iostream>
#include "greet.h"
int main() { std::cout << greet("world") << std::endl; }
