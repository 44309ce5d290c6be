"""Dual TV-L1 optical flow: parameters and sizes that every implementation of it shares."""
