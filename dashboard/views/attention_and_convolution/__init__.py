"""The three questions about self-attention: which parts help, is it a convolution, how do the two combine."""
