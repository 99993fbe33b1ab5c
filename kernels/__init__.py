"""What runs on Kaggle: an ordinary package that harness flattens into one script per strategy."""
