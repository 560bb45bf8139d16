#include "greet.h"
int main() { return greet("you") == "Hello, you!" ? 0 : 1; }
