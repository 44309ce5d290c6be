"""The parts of `fusion_train.report`: what is read, what is computed of it, and how it is drawn."""
