"""The shell around the domain: hooks, trackers, progress, pre-flight, sweep."""
