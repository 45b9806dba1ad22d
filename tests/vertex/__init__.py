"""A stand-in for Vertex AI, for Google's unmodified client: see README.md."""
