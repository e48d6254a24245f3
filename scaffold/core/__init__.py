"""What knows nothing of wasm: events, files, processes, caches, text, versions, git."""
