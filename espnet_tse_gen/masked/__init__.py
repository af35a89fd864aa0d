"""The masked-token extractor: embeddings, mixture encoder, transformer, masking, loss, and the ESPnet model around them."""
