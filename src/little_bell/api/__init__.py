"""The JSON API: bodies are parsed here, at the door, into typed values."""
