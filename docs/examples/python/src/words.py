import sys


def counts(words):
    found = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return found


def main():
    for word, count in sorted(counts(sys.argv[1:]).items()):
        print(word, count)
