"""The process on a node that holds one shard and runs it. Knows nothing of HTTP, SSH or profiles."""
