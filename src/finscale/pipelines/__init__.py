"""The seven pipelines. Nodes are adapters: rename, call the domain, return."""
