"""whence: which training data made this model do this, and where in the data and in the network?"""
