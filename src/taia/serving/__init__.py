"""A model and its modes behind OpenAI's HTTP interface, and vLLM with the same modes."""
