"""The student: rows to tokens, LoRA fine-tuning, and scores from one forward pass per row."""
