import os
import unittest

from words import counts

shard, shards = int(os.environ["SCOOT_SHARD"]), int(os.environ["SCOOT_SHARDS"])
cases = [([], {}), (["a"], {"a": 1}), (["a", "b", "a"], {"a": 2, "b": 1})]


class Words(unittest.TestCase):
    def test_counts(self):
        for words, expected in cases[shard::shards]:
            self.assertEqual(counts(words), expected)
