"""Pure functions of tensors: statistics, ratios and the output made of them."""
