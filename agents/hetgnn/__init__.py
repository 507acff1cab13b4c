"""The paper's heterogeneous graph neural network: labels, network, loss, training and the policies on top of it."""
