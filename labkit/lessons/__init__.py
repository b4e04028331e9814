"""Predict, reveal, check: lessons that ask before they tell, and look at the learner's own wire for the answer."""
