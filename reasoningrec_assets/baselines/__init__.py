"""Methods without a language model: the floors that every language model has to beat."""
