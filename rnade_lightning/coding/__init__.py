"""Lossless coding of sound: the mass of every integer, made into bits that can be read again."""
