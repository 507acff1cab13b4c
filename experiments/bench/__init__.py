"""Benchmarks behind `cfisac bench`: what they measure and store; the numbers in the documentation come from here."""
