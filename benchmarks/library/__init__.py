"""The model library beside the Hugging Face client, from a loopback Hub. See `__main__`."""
