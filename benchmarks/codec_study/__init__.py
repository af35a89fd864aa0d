"""What codecs are worth: fidelity of their round trip, speed, and how well their tokens can be predicted."""
