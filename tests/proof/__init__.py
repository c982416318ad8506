"""The proof: a broker, a market and a firm of our own, against which the real gate is played by an adversary."""
