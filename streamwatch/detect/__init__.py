"""Detection: evidence that a candidate's error rate exceeds its baseline's, and the verdict."""
