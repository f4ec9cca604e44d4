"""Models: the chat template, transformers, remote endpoints and fakes. Import the module you need."""
