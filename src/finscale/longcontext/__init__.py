"""Floor 4: how far back a decoder can really look, measured on generated retrieval tasks."""
