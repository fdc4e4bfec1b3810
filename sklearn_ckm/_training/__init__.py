"""Training: the skorch nets, their batches, the joint loss and its monitors."""
